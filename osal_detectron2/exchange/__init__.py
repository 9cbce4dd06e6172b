"""The files of annotation tools, both ways: the batch that waits goes out, what people did comes back (`registry`)."""
