# A host without flakes, as bento has it: what it shares with others lies behind a link.
{
  imports = [ ./utils/common.nix ];
  networking.hostName = "router";
}
