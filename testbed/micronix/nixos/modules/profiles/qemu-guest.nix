# What a guest of qemu needs. Nothing here.
{ }
