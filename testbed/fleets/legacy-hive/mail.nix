{ deployment.targetHost = "mail.example.org"; }
