"""A campaign: from a folder of images to a detector, with people who label (docs/campaign.md)."""
