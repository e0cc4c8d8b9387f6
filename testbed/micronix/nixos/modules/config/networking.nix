# The machine's name, its addresses and its firewall.
{ config, options, pkgs, lib, ... }:
let
  cfg = config.networking;
  firewall = cfg.firewall;
  ip = "${pkgs.iproute2}/bin/ip";
  address = { name, ... }: {
    options = {
      address = lib.mkOption { type = lib.types.str; description = "The address."; };
      prefixLength = lib.mkOption { type = lib.types.ints.between 0 128; description = "The length of its network's prefix."; };
    };
  };
  addresses = lib.mkOption { type = lib.types.listOf (lib.types.submodule address); default = [ ]; description = "The addresses."; };
  family = { inherit addresses; routes = lib.mkOption { type = lib.types.listOf lib.types.attrs; default = [ ]; description = "Taken."; }; };
  all = i: i.ipv4.addresses ++ i.ipv6.addresses;
  addressed = lib.filterAttrs (_: i: all i != [ ]) cfg.interfaces;
  gateway = lib.types.nullOr (lib.types.coercedTo lib.types.str (address: { inherit address; }) (lib.types.submodule {
    options = {
      address = lib.mkOption { type = lib.types.str; description = "The gateway's address."; };
      interface = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; description = "The interface it is reached through."; };
      metric = lib.mkOption { type = lib.types.nullOr lib.types.int; default = null; description = "The route's metric."; };
    };
  }));
  ports = ps: lib.concatMapStringsSep ", " toString (lib.unique (lib.sort (a: b: a < b) ps));
  ranges = rs: lib.concatMapStringsSep ", " (r: "${toString r.from}-${toString r.to}") rs;
  allow = proto: ps: rs: lib.optionalString (ps != [ ]) "${proto} dport { ${ports ps} } accept\n" + lib.optionalString (rs != [ ]) "${proto} dport { ${ranges rs} } accept\n";
  rules = pkgs.writeText "firewall.nft" ''
    table inet nixos-fw
    delete table inet nixos-fw
    table inet nixos-fw {
      chain input {
        type filter hook input priority 0; policy drop;
        iifname { ${lib.concatMapStringsSep ", " (i: "\"${i}\"") ([ "lo" ] ++ firewall.trustedInterfaces)} } accept
        ct state { established, related } accept
        ct state invalid drop
        ${lib.optionalString firewall.allowPing "icmp type echo-request accept"}
        meta l4proto 58 accept
        ${allow "tcp" firewall.allowedTCPPorts firewall.allowedTCPPortRanges}
        ${allow "udp" firewall.allowedUDPPorts firewall.allowedUDPPortRanges}
        ${firewall.extraInputRules}
      }
    }
  '';
  portList = lib.mkOption { type = lib.types.listOf lib.types.port; default = [ ]; description = "Ports that are open."; };
  portRanges = lib.mkOption { type = lib.types.listOf (lib.types.attrsOf lib.types.port); default = [ ]; description = "Ranges of ports that are open."; };
in {
  options.networking = {
    hostName = lib.mkOption {
      # As a host name goes in DNS, without dots.
      type = lib.types.strMatching "^$|^[[:alnum:]]([[:alnum:]_-]{0,61}[[:alnum:]])?$";
      default = config.system.nixos.distroId;
      description = "The machine's name. Empty: left as it is.";
    };
    domain = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; description = "The domain."; };
    fqdn = lib.mkOption { type = lib.types.str; readOnly = true; default = if cfg.domain != null then "${cfg.hostName}.${cfg.domain}" else throw "The FQDN is required but cannot be determined from `networking.hostName` and `networking.domain`. Please ensure these options are set properly or set `networking.fqdn` directly."; description = "The name with the domain."; };
    fqdnOrHostName = lib.mkOption { type = lib.types.str; readOnly = true; default = if cfg.domain == null then cfg.hostName else cfg.fqdn; description = "The name, with the domain where there is one."; };
    hostId = lib.mkOption { type = lib.types.nullOr lib.types.str; default = null; description = "Taken."; };
    hosts = lib.mkOption { type = lib.types.attrsOf (lib.types.listOf lib.types.str); default = { }; description = "Names for addresses."; };
    extraHosts = lib.mkOption { type = lib.types.lines; default = ""; description = "More lines of /etc/hosts."; };
    nameservers = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "The name servers."; };
    search = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "The domains that are searched."; };
    useDHCP = lib.mkOption { type = lib.types.bool; default = true; description = "Taken: there is no DHCP in a lab."; };
    useNetworkd = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
    usePredictableInterfaceNames = lib.mkOption { type = lib.types.bool; default = true; description = "Taken."; };
    enableIPv6 = lib.mkOption { type = lib.types.bool; default = true; description = "Taken."; };
    networkmanager = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.anything; }; default = { }; description = "Taken."; };
    wireless = lib.mkOption { type = lib.types.submodule { freeformType = lib.types.attrsOf lib.types.anything; }; default = { }; description = "Taken."; };
    nftables.enable = lib.mkOption { type = lib.types.bool; default = false; description = "Taken: the firewall is nftables' in any case."; };
    defaultGateway = lib.mkOption { type = gateway; default = null; description = "The default route."; };
    defaultGateway6 = lib.mkOption { type = gateway; default = null; description = "The default route of IPv6."; };
    interfaces = lib.mkOption {
      default = { };
      description = "The interfaces that have fixed addresses.";
      type = lib.types.attrsOf (lib.types.submodule ({ name, ... }: {
        options = {
          name = lib.mkOption { type = lib.types.str; default = name; description = "The interface's name."; };
          ipv4 = family;
          ipv6 = family;
          useDHCP = lib.mkOption { type = lib.types.nullOr lib.types.bool; default = null; description = "Taken."; };
          mtu = lib.mkOption { type = lib.types.nullOr lib.types.int; default = null; description = "The MTU."; };
        };
      }));
    };
    firewall = {
      enable = lib.mkOption { type = lib.types.bool; default = true; description = "Whether what is not allowed is dropped."; };
      package = lib.mkOption { type = lib.types.package; default = pkgs.nftables; description = "What sets the rules."; };
      allowPing = lib.mkOption { type = lib.types.bool; default = true; description = "Whether pings are answered."; };
      allowedTCPPorts = portList;
      allowedUDPPorts = portList;
      allowedTCPPortRanges = portRanges;
      allowedUDPPortRanges = portRanges;
      trustedInterfaces = lib.mkOption { type = lib.types.listOf lib.types.str; default = [ ]; description = "Where everything is let in."; };
      extraInputRules = lib.mkOption { type = lib.types.lines; default = ""; description = "More rules, in nft's language."; };
      extraCommands = lib.mkOption { type = lib.types.lines; default = ""; description = "Taken."; };
      logRefusedConnections = lib.mkOption { type = lib.types.bool; default = true; description = "Taken."; };
      checkReversePath = lib.mkOption { type = lib.types.anything; default = false; description = "Taken."; };
      rejectPackets = lib.mkOption { type = lib.types.bool; default = false; description = "Taken."; };
    };
  };

  config = lib.mkMerge [
    {
      networking.hosts = {
        "127.0.0.1" = [ "localhost" ];
        "::1" = [ "localhost" ];
        "127.0.0.2" = lib.mkIf (cfg.hostName != "") (lib.optional (cfg.domain != null) cfg.fqdn ++ [ cfg.hostName ]);
      };
      environment.etc.hosts.text =
        lib.concatLines (lib.mapAttrsToList (ip: names: "${ip} ${toString names}") (lib.filterAttrs (_: names: names != [ ]) cfg.hosts)) + cfg.extraHosts;
      environment.etc.hostname = lib.mkIf (cfg.hostName != "") { text = cfg.hostName + "\n"; };
      environment.etc."resolv.conf" = lib.mkIf (cfg.nameservers != [ ]) {
        text = lib.optionalString (cfg.search != [ ]) "search ${toString cfg.search}\n" + lib.concatMapStrings (n: "nameserver ${n}\n") cfg.nameservers;
      };
      system.activationScripts.hostname = lib.mkIf (cfg.hostName != "") ''
        ${pkgs.busybox}/bin/hostname "${cfg.hostName}"
      '';
      system.activationScripts.domain = lib.mkIf (cfg.domain != null) "";
    }
    {
      systemd.services = lib.mapAttrs' (_: i: lib.nameValuePair "network-addresses-${i.name}" {
        description = "Address configuration of ${i.name}";
        wantedBy = [ "multi-user.target" "network.target" ];
        before = [ "network.target" ];
        after = [ "network-pre.target" ];
        unitConfig.DefaultDependencies = false;
        stopIfChanged = false;
        serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
        path = [ pkgs.iproute2 ];
        script = ''
          state="/run/nixos/network/addresses/${i.name}"
          mkdir -p "$(dirname "$state")"
          ${ip} link set dev "${i.name}" ${lib.optionalString (i.mtu != null) "mtu ${toString i.mtu}"} up
          ${lib.concatMapStrings (a: ''
            echo "${a.address}/${toString a.prefixLength}" >> $state
            echo -n "adding address ${a.address}/${toString a.prefixLength}... "
            ${ip} addr replace "${a.address}/${toString a.prefixLength}" dev "${i.name}" && echo "done" || { echo "'ip addr add ${a.address}/${toString a.prefixLength} dev ${i.name}' failed"; exit 1; }
          '') (all i)}
        '';
        preStop = ''
          state="/run/nixos/network/addresses/${i.name}"
          if [ -e "$state" ]; then
            while read -r address; do
              echo -n "deleting $address..."
              ${ip} addr del "$address" dev "${i.name}" >/dev/null 2>&1 || echo -n " Failed"
              echo ""
            done < "$state"
            rm -f "$state"
          fi
        '';
      }) addressed;
    }
    (lib.mkIf (cfg.defaultGateway != null || cfg.defaultGateway6 != null) {
      systemd.services.network-setup = {
        description = "Networking Setup";
        wantedBy = [ "multi-user.target" "network.target" ];
        before = [ "network.target" ];
        after = map (i: "network-addresses-${i.name}.service") (lib.attrValues addressed);
        unitConfig.DefaultDependencies = false;
        serviceConfig = { Type = "oneshot"; RemainAfterExit = true; };
        script = lib.concatMapStrings ({ flag, gw }: lib.optionalString (gw != null)
          "${ip} ${flag} route replace default via ${gw.address} ${lib.optionalString (gw.interface != null) "dev ${gw.interface}"} ${lib.optionalString (gw.metric != null) "metric ${toString gw.metric}"}\n"
        ) [ { flag = "-4"; gw = cfg.defaultGateway; } { flag = "-6"; gw = cfg.defaultGateway6; } ];
      };
    })
    (lib.mkIf firewall.enable {
      systemd.services.firewall = {
        description = "Firewall";
        wantedBy = [ "sysinit.target" ];
        wants = [ "network-pre.target" ];
        after = [ "systemd-modules-load.service" ];
        before = [ "network-pre.target" "shutdown.target" ];
        conflicts = [ "shutdown.target" ];
        reloadIfChanged = true;
        unitConfig.DefaultDependencies = false;
        unitConfig.ConditionCapability = "CAP_NET_ADMIN";
        serviceConfig = {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = "${firewall.package}/bin/nft -f ${rules}";
          ExecReload = "${firewall.package}/bin/nft -f ${rules}";
          ExecStop = "${firewall.package}/bin/nft delete table inet nixos-fw";
        };
      };
    })
  ];
}
