"""Every sentence on the studio's page, in one place: short, plain, and about what the user sees.

Texts with braces are filled by str.format; values are escaped where they go into HTML.
A translation is another module with the same names.
"""

from blockskip.studio.strings.plan import *
from blockskip.studio.strings.results import *
from blockskip.studio.strings.setup import *
from blockskip.studio.strings.training import *
