# deploy-rs's nodes, in the words in which `evaluate.nix` reads a host. A profile's options win over its node's, and those over
# the fleet's, as in deploy-rs. The NixOS configuration of the same name, where there is one, gives what deploy-rs has no
# words for: `deployment.tags` and the like.
deploy: configurations:
let
  root = "root";
  listed = value: if builtins.isList value then value else [ value ];

  host =
    name: node:
    let
      profiles = node.profiles or { };
      known = builtins.attrNames profiles;
      ordered = node.profilesOrder or [ ];
      strange = builtins.filter (profile: !profiles ? ${profile}) ordered;
      rest = builtins.filter (profile: !builtins.elem profile ordered) known;
      first =
        list:
        builtins.foldl' (seen: profile: if builtins.elem profile seen then seen else seen ++ [ profile ]) [ ] list;
      order =
        if known == [ ] then
          throw "`deploy.nodes.${name}` has no profiles, so there is nothing to deploy"
        else if strange != [ ] then
          throw "`deploy.nodes.${name}.profilesOrder` names `${builtins.head strange}`, which is none of its profiles"
        else
          first ordered ++ rest;

      # Of a profile, its node and the fleet, in this order.
      levels = profile: [
        profile
        node
        deploy
      ];
      given = option: profile: builtins.filter (level: (level.${option} or null) != null) (levels profile);
      get =
        option: default: profile:
        let
          from = given option profile;
        in
        if from == [ ] then default else (builtins.head from).${option};
      all = option: profile: builtins.concatMap (level: listed level.${option}) (given option profile);

      userOf = default: profile: get "user" (get "sshUser" default profile) profile;
      # Root's, and that of who has not said whose it is, which could be nobody else's.
      hasSystem = profiles ? system && userOf root profiles.system == root;
      others = if hasSystem then builtins.filter (profile: profile != "system") order else order;
      # It decides how the host is reached, which is done once for all of them.
      main = if hasSystem then profiles.system else profiles.${builtins.head order};

      values = builtins.attrValues profiles;
      isOn = option: builtins.any (get option false) values;
      isOff = option: builtins.any (profile: !get option true profile) values;

      built =
        profile:
        let
          inherit (profiles.${profile}) path;
        in
        if path ? drvPath then
          path
        else
          throw "`deploy.nodes.${name}.profiles.${profile}.path` is no derivation, so bosco can't build it";
      words = text: builtins.filter (word: builtins.isString word && word != "") (builtins.split " +" text);
    in
    (configurations.${name} or { })
    // {
      deploy = {
        toplevel = built (if hasSystem then "system" else builtins.head order);
        profilesOnly = !hasSystem;
        # `operator`: who asks, and whose the profiles are that say of no user.
        profiles =
          operator:
          map (profile: {
            name = profile;
            user = userOf operator profiles.${profile};
            place = profiles.${profile}.profilePath or null;
          }) others;
        # What makes each of them.
        derivations = map built others;
        tags = first (all "groups" main);
        target = {
          host = node.hostname;
          user = get "sshUser" null main;
          port = null;
          sshOptions = all "sshOpts" main;
          # Who is asked for is root, whoever a profile belongs to: it is root's helper that activates each as its user.
          privilege = words (get "sudo" "sudo -u" main) ++ [ root ];
        };
        limits = {
          activation = get "activationTimeout" null main;
          confirm = get "confirmTimeout" null main;
        };
        buildOnTarget = isOn "remoteBuild";
        # `interactiveSudo` needs no word: who sits at a terminal is asked where sudo asks.
        ignored = map (option: "${option} = false") (
          builtins.filter isOff [
            "autoRollback"
            "magicRollback"
          ]
        );
      };
    };
in
builtins.mapAttrs host deploy.nodes
