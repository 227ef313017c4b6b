"""Bringing VC Stack up: installation, the guest image, the single-machine lab and systemd units for real hosts."""
