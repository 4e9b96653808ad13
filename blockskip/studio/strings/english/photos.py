"""Sentences about photos and their captions."""

from __future__ import annotations

# photos

PHOTOS_TITLE = "Photos"
PHOTOS_ABOUT = "4 to 20 photos with only this pet in them. Different places and poses work best."
PHOTOS_LABEL = "Photos of your pet"
PHOTOS_DROP = "Drop photos here, or click to choose them"
PHOTOS_DEMO = "Try it with the demo pet"
DEMO_NAME = "Momo"
PHOTOS_CLEAR = "Remove all"
PHOTOS_EMPTY = "The photos you choose appear here. They stay on this computer."
PHOTOS_REJECTED = "Left out:"
PHOTOS_ADDING = "Reading photos: {n} of {total}"
PHOTOS_COUNT_ONE = "1 photo"
PHOTOS_COUNT = "{count} photos"
PHOTOS_MOST = "the limit is {most} photos"
PHOTO_REMOVE = "Remove {name}"
UNDO = "Undo"
UNDO_FORGET = "Delete what was removed"
UNDO_ONE = "{name} was removed."
UNDO_MANY = {
    "some": "{photos} were removed.",
    "all": "{photos} were removed.",
    "replaced": "{photos} made room for others.",
}
UNDO_NO_ROOM = "There is no room for them: the limit is {most} photos."
UNDO_NO_ROOM_REMEDY = "Remove others first."
PHOTO_OPEN = "Open {name}"
VALUE_UNUSABLE = "One of these values is of a wrong kind: {values}."
PHOTO_TWICE = "it has already been added"
PHOTO_ASIDE = "it is set aside: bring it back below"
DROP = {
    "adding": "Adding photos: {n} of {total}",
    "stop": "Stop adding",
    "again": "Try again",
    "rejected": PHOTOS_REJECTED,
    "film": "it is a video, not a photo",
    "large": "it is larger than 60 MB",
    "failed": "The photos could not be uploaded.",
}
PHOTOS_BEST = "Keep the best {count}"
PHOTOS_SELECT = "Select"
SELECT = {
    "chosen_one": "1 photo selected",
    "chosen": "{count} photos selected",
    "caption": "Caption for {count} photos",
    "caption_about": "Describe the rest of these photos, e.g. “lying on a sofa”.",
    "caption_empty": "Only where there is none",
    "caption_all": "Replace all",
}
SELECT_ALL = "Select all"
SELECT_CAPTION = "Write a caption"
SELECT_ASIDE = "Set aside"
SELECT_REMOVE = "Remove"
SELECT_REMOVE_ASK = "Remove the selected photos?"
SELECT_DONE = "Done"
SELECT_HINT = "Click photos to select them; hold Shift to select a whole row of them."
ASIDE_ONE = "1 photo is set aside"
ASIDE = "{count} photos are set aside"
ASIDE_ABOUT = "They are kept, but not trained on. Click one to use it after all."
ASIDE_BACK = "Bring all back"
ASIDE_BACK_ONE = "Use {name} after all"
CAPTION_UNCLEAR = "several photos have this name: click the photo and write its caption there"
PHOTO_BOXED = "The pet is marked"
PHOTO_FOUND = "The pet was found and marked; click to change its frame"
PHOTO_NOTES = {
    "lost": "Not found",
    "other": "Is it this?",
    "several": "More than one",
    "people": "People",
}
FINDER_OFFER = "Have the pet found and marked on every photo"
FINDER_LOOKING = "Looking for {pet} in photo {n} of {total}"
FINDER_AGAIN = "Look again"
FINDER_UNKNOWN = (
    "The pet finder knows cats, dogs, birds and horses, but no “{kind}”. “Mark the pet” marks what "
    "stands out, which is often right."
)
YOUR_PET = "your pet"
PHOTO_HINT = (
    "Click a photo to draw a frame around the pet, change its caption and see what the model will "
    "learn from it."
)
PHOTOS_BOX_ALL = "Mark the pet on every photo"
PHOTOS_BOX_NONE = "Remove the marks"
PHOTOS_BOXED_ABOUT = (
    "The pet is marked on {count} of {total} photos, so close-ups show it, not the grass. "
    "Please check: click a photo to move its frame."
)
PHOTO = {
    "title": "Photo",
    "close": "Done",
    "previous": "Previous",
    "next": "Next",
    "box": "Where is the pet?",
    "box_about": "Draw a frame around it with the mouse or a finger. Keys: arrows move the frame, Shift and "
    "arrows change its size.",
    "propose": "Suggest a frame",
    "no_box": "No frame",
    "caption": "Caption",
    "caption_about": "Describe the rest of the photo, e.g. “lying on a sofa”. "
    "“{automatic}” is put in front of it; [trigger] stands for the name.",
    "describe": "Describe it for me",
    "crops": "What the trainer will see",
    "crops_again": "Show other crops",
    "much": "seen from afar",
    "middle": "closer",
    "little": "close up",
    "findings": "Worth knowing",
    "hold_out": "Hold this photo out of training",
    "train_on": "Train on this photo too",
}
PHOTO_UNSEEN = "held out"
UNSEEN_PHOTOS = (
    "Held out of training: {names}. Likeness is measured with what training did not see, since on "
    "its own photos a model that copies them would do best. {why} Click a photo to change that."
)
UNSEEN_BY_RULE = (
    "One photo in five, with a frame if any has one, none with a near-duplicate, each unlike the "
    "others held out."
)
UNSEEN_BY_USER = "You have chosen them."
UNSEEN_NONE = "Train on all photos"
UNSEEN_OFFER = "Measure which step looks most like your pet, with photos that training does not see"
CROPS_ABOUT = {
    "dynamic": "It learns the whole pet first, fur and eyes last.",
    "reversed": "It learns fur and eyes first, the whole pet last.",
    "random": "It learns near and far views at random.",
    "resize": "With this model and budget, it always sees the whole photo.",
    "full": "With this model and budget, it always sees the whole photo.",
}

# captions by a model

DESCRIBE_TITLE = "Captions"
DESCRIBE_ABOUT = (
    "What a caption names is not learnt as part of your pet: its place, its collar, your sofa. "
    "{count} of {total} photos have one. Click a photo to write or change its caption, or have the "
    "others described. Nothing that you wrote is overwritten."
)
DESCRIBE_ALL = "Describe the photos"
DESCRIBE_BY = (
    "{title} describes them on this computer. Nothing is downloaded, nothing is sent. It takes "
    "{gib:.0f} GB of RAM while it works, on the processor: from seconds to minutes a photo."
)
DESCRIBE_BY_SERVER = "{model} at {address} describes them."
DESCRIBE_DONE = "Every photo has a caption."
DESCRIBE_LOADING = "Loading the model that describes photos …"
DESCRIBING = "Describing the photos: {n} of {total}{left}"
DESCRIBE_STOP = "Stop describing"
DESCRIBE_TRAINING = "A training is running, and describing photos needs memory too."
DESCRIBE_ANYWAY = "Describe them all the same"
DESCRIBE_WITH = "Who describes them"
DESCRIBE_OFFER = "Have the photos described: download a model for it"
DESCRIBE_OTHER_OFFER = "Download a smaller model for it"
DESCRIBE_NONE = "Every photo has a caption."
DESCRIBE_NONE_REMEDY = "Empty the caption of a photo to have it described."
DESCRIBE_NOBODY = "No model that describes photos is on this computer."
DESCRIBE_NOBODY_REMEDY = "Download one, or use a server of yours, below your photos."
DESCRIBE_WORDS_TITLE = "What the model is asked"
DESCRIBE_WORDS = "Instruction; {class} stands for the kind of animal"
DESCRIBE_WORDS_SAVE = "Ask this"
DESCRIBE_WORDS_USUAL = "Ask the usual"
SERVER_TITLE = "A server of yours: LM Studio, Ollama"
SERVER_ABOUT = (
    "Small copies of your photos are sent to this address, without place and date. Its model may "
    "hold graphics memory: unload it there before you train."
)
SERVER_ADDRESS = "Address, such as http://127.0.0.1:1234/v1"
SERVER_LOOK = "Look for its models"
SERVER_MODELS = "Choose a model that can see photos:"
SERVER_EMPTY = "It has no model of its own. Load one there that can see photos."
SERVER_ALLOW = "Send my photos to {address}"
SERVER_ROW = "{model} at {address}"
