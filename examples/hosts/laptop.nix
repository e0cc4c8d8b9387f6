# It is at home, on a train, or off: nobody reaches it, so it fetches what it should run.
{ program, ... }:
{
  services.bosco.agent = {
    enable = true;
    package = program;
  };

  environment.etc."greeting".text = "Good morning.\n";
}
