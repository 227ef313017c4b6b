"""The images: Dockerfiles, a rehearsal of their steps without a builder, and bills of materials."""
