"""The words with which a person says what a file is. Standard library only, for the options of a command."""

# The formats; each is a module of this package, with "_" for "-".
FORMATS = ("coco", "label-studio", "cvat", "geojson", "yolo", "voc")

# What an importer may say of a file; each is a word of `accept`, and a flag --accept-WORD.
ACCEPT = {
    "unchanged": 'tiles whose boxes are exactly the pre-annotations were reviewed, though "review" is lost',
    "thinned": "tiles of whose pre-annotations some were deleted, and nothing else was done, were reviewed",
    "duplicates": "keep one of two boxes of one class on the same nucleus (IoU .9 or more)",
    "two-classes": "keep both of two boxes of two classes on the same nucleus (IoU .9 or more)",
    "names": "images with another suffix, or more around their name, are the tiles that they look like",
}
