{
  system = "1";
  home = "1";
  tool = "1";
}
