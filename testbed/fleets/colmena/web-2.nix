{ environment.etc."second".text = "yes"; }
