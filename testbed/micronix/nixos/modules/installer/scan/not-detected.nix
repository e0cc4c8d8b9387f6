# What is set where the hardware is not known.
{ lib, ... }: { hardware.enableRedistributableFirmware = lib.mkDefault true; }
