"""What the examples share: a throw-away service, the telling of a story, and torchvision on any build of torch."""
