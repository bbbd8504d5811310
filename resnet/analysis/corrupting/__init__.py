"""The corruptions, by kind: functions of images (N, C, H, W) in 0..1."""
