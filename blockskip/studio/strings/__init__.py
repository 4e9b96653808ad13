"""Every sentence the studio says, in one place: short, plain, and about what the user sees.

Texts with braces are filled with str.format; what is filled in is escaped where it goes into HTML.
A translation is another module with the same names.
"""

from blockskip.studio.strings.plan import *
from blockskip.studio.strings.results import *
from blockskip.studio.strings.setup import *
from blockskip.studio.strings.training import *
