# One host of a source: how to deploy it and what it should run, in one evaluation.
#
# `condition` is what a selector still has to ask of the host's tags (null: nothing). Where it does not hold, the
# toplevel is not evaluated. Without `system` it never is. `operator` is the name of who asks.
{
  host,
  condition,
  system,
  operator,
}:
source:
let
  node = source.nodes.${host};
  # Not declared in a plain configuration.
  deployment = node.config.deployment or { };
  # What is said of it beside its configuration, where the fleet is deploy-rs's.
  beside = node.deploy or { };
  tags = deployment.tags or [ ] ++ beside.tags or [ ];
  toplevel = beside.toplevel or node.config.system.build.toplevel;
  profiles = (beside.profiles or (_: [ ])) operator;
  update = deployment.update or { };

  # When it updates by itself. Only what is declared: the rest has its defaults where this is read.
  policy =
    builtins.intersectAttrs {
      interval = null;
      onBattery = null;
      onMetered = null;
    } update
    // {
      windows = map (window: {
        days = map (day: weekdays.${day}) window.days;
        from = minutes window.from;
        to = minutes window.to;
      }) (update.windows or [ ]);
    };
  weekdays = {
    monday = 0;
    tuesday = 1;
    wednesday = 2;
    thursday = 3;
    friday = 4;
    saturday = 5;
    sunday = 6;
  };
  # `08:30` to the minute of the day. A number of JSON does not begin with a zero.
  minutes =
    time:
    let
      parts = map (builtins.match "0?([0-9]+)") (builtins.filter builtins.isString (builtins.split ":" time));
      number = part: builtins.fromJSON (builtins.head (builtins.elemAt parts part));
    in
    60 * number 0 + number 1;

  # Where its secrets come from: the sops files, which are ciphertext, and what bosco seals itself. Read here, as the files may
  # be nowhere but in what Nix knows of the flake.
  secrets =
    let
      bosco = node.config.services.bosco.secrets or { };
      files = bosco.files or { };
      path = secret: builtins.unsafeDiscardStringContext (toString secret.sopsFile);
    in
    {
      atBoot = bosco.installed or false;
      files = builtins.listToAttrs (
        map (secret: {
          name = path secret;
          value = {
            inherit (secret) format;
            text = builtins.readFile secret.sopsFile;
          };
        }) (builtins.attrValues files)
      );
      secrets = builtins.mapAttrs (_: path) files;
      keys = builtins.mapAttrs (
        _: key:
        builtins.intersectAttrs {
          name = null;
          text = null;
          keyFile = null;
          keyCommand = null;
          destDir = null;
          user = null;
          group = null;
          permissions = null;
          uploadAt = null;
        } key
      ) (deployment.keys or { });
    };

  privilege =
    deployment.privilegeEscalationCommand or [
      "sudo"
      "-H"
      "--"
    ];

  metadata = {
    name = host;
    inherit tags profiles;
    profilesOnly = beside.profilesOnly or false;
    limits = beside.limits or { };
    mode = update.mode or "push";
    publicKeys = deployment.publicKeys or [ ];
    after = deployment.after or [ ];
    buildOnTarget = beside.buildOnTarget or (deployment.buildOnTarget or false);
    replaceUnknownProfiles = deployment.replaceUnknownProfiles or true;
    allowLocalDeployment = deployment.allowLocalDeployment or false;
    # What its source asks for and bosco does not do: said, rather than passed over.
    ignored = beside.ignored or [ ];
    system = node.pkgs.stdenv.hostPlatform.system or toplevel.system;
    privilege = beside.target.privilege or privilege;
    target =
      beside.target or (
      let
        # Declared without a default and not set is as good as not declared.
        isSet = node.options.deployment.targetHost.isDefined or true;
        targetHost = if isSet then deployment.targetHost or host else host;
      in
      if targetHost == null then
        null
      else
        {
          host = targetHost;
          user = deployment.targetUser or "root";
          port = deployment.targetPort or null;
          sshOptions = deployment.sshOptions or [ ];
          inherit privilege;
        }
      );
  };

  holds =
    condition:
    if condition ? tag then
      builtins.any (tag: builtins.match condition.tag tag != null) tags
    else if condition ? not then
      !holds condition.not
    else if condition ? all then
      builtins.all holds condition.all
    else
      builtins.any holds condition.any;
in
if condition != null && !holds condition then
  {
    selected = null;
    inherit tags;
  }
else if system then
  {
    selected = {
      host = metadata;
      inherit policy secrets;
      derivation = toplevel.drvPath;
      toplevel = toplevel.outPath;
      profiles = builtins.genList (
        index:
        let
          derivation = builtins.elemAt beside.derivations index;
        in
        builtins.elemAt profiles index
        // {
          path = derivation.outPath;
          derivation = derivation.drvPath;
        }
      ) (builtins.length profiles);
    };
  }
else
  { selected = metadata; }
