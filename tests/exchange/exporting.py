"""A batch whose tiles have awkward names."""

# In folders, with spaces, with letters of other scripts; of one stem.
KEYS = ["slide 1/tile.png", "slide 2/tile.png", "Schnitt ä/日本 (1).png", "plain.png", "a/b/c/deep.png"]
SLIDE = {"parent": "slides/A 1.svs", "downsample": 2}
DRAFTS = {
    KEYS[0]: [("tumor", (10.25, 20.5, 30.13, 9.07), 0.91), ("unknown", (50, 60, 9, 11.5), 0.5)],
    KEYS[1]: [("lymphocyte", (0, 0, 12.34, 7.77), 0.4)],
    KEYS[4]: [("tumor", (90, 41, 7, 8), 0.75)],
}
