# Stand-ins for the packages that configurations name.
{ final, lib }:
let
  # Programs of the machine's base system under a store path. They exist on the machines, not in a build's sandbox.
  fromBase = pname: version: programs: final.runCommand "${pname}-${version}" { inherit pname version; meta.mainProgram = lib.head programs; } ''
    mkdir -p $out/bin
    for p in ${toString programs}; do
      case $p in /*) ln -s $p $out/bin/''${p##*/} ;; *) ln -s /usr/bin/$p $out/bin/$p ;; esac
    done
  '';
  linuxPackagesOf = version: rec {
    inherit (final) stdenv;
    kernel = final.runCommand "linux-${version}" { pname = "linux"; inherit version; passthru = { modDirVersion = version; }; } ''
      mkdir -p $out/lib/modules/${version}
      echo "a stand-in for Linux ${version}" > $out/bzImage
    '';
    kernelOlder = v: lib.versionOlder version v;
    kernelAtLeast = v: lib.versionAtLeast version v;
  };
in rec {
  # bash on the machine; in a build's sandbox, where there is none, busybox' shell.
  bash = final.writeTextFile {
    name = "bash-5.2";
    destination = "/bin/bash";
    executable = true;
    text = ''
      #!${final.busybox-bin}/bin/busybox sh
      [ ! -x /bin/bash ] || exec /bin/bash "$@"
      exec ${final.busybox-bin}/bin/busybox sh "$@"
    '';
    meta.mainProgram = "bash";
    derivationArgs.passthru = { shellPath = "/bin/bash"; };
  };
  bashInteractive = bash;
  runtimeShell = "${bash}/bin/bash";
  runtimeShellPackage = bash;

  coreutils = final.busybox;
  coreutils-full = final.busybox;
  findutils = final.busybox;
  gnugrep = final.busybox;
  gnused = final.busybox;
  gawk = final.busybox;
  gnutar = final.busybox;
  gzip = final.busybox;
  diffutils = final.busybox;
  procps = final.busybox;
  util-linux = final.busybox;
  netcat = final.busybox;
  nettools = final.busybox;
  less = final.busybox;
  vim = final.busybox;
  nano = final.busybox;
  wget = final.busybox;
  htop = final.busybox;

  systemd = (final.runCommand "systemd-257" { pname = "systemd"; version = "257"; } ''
    mkdir -p $out/bin $out/lib
    ln -s /usr/lib/systemd $out/lib/systemd
    for p in ${toString systemdPrograms}; do
      case $p in reboot|poweroff|halt|shutdown) ln -s /usr/sbin/$p $out/bin/$p ;; *) ln -s /usr/bin/$p $out/bin/$p ;; esac
    done
  '') // { interfaceVersion = 2; };
  systemdPrograms = [
    "reboot" "poweroff" "halt" "shutdown"
    "busctl" "hostnamectl" "journalctl" "localectl" "loginctl" "networkctl" "systemctl" "systemd-analyze" "systemd-ask-password"
    "systemd-cat" "systemd-cgls" "systemd-cgtop" "systemd-creds" "systemd-delta" "systemd-detect-virt" "systemd-escape"
    "systemd-id128" "systemd-inhibit" "systemd-machine-id-setup" "systemd-mount" "systemd-notify" "systemd-path" "systemd-run"
    "systemd-socket-activate" "systemd-stdio-bridge" "systemd-sysusers" "systemd-tmpfiles" "systemd-umount" "timedatectl"
  ];
  nix = fromBase "nix" "2.26.3" [ "nix" "nix-build" "nix-channel" "nix-collect-garbage" "nix-copy-closure" "nix-daemon" "nix-env" "nix-hash" "nix-instantiate" "nix-prefetch-url" "nix-shell" "nix-store" ];
  nixVersions = { stable = nix; latest = nix; nix_2_26 = nix; };
  openssh = fromBase "openssh" "10.0" [ "ssh" "scp" "sftp" "ssh-add" "ssh-agent" "ssh-keygen" "ssh-keyscan" "/usr/sbin/sshd" ];
  iproute2 = fromBase "iproute2" "6.15" [ "/usr/sbin/ip" "ss" "/usr/sbin/bridge" "/usr/sbin/tc" ];
  nftables = fromBase "nftables" "1.1" [ "/usr/sbin/nft" ];
  shadow = fromBase "shadow" "4.17" [ "/usr/sbin/nologin" "/usr/sbin/useradd" "/usr/sbin/usermod" "/usr/sbin/userdel" "/usr/sbin/groupadd" "/usr/sbin/groupdel" "/usr/sbin/groupmod" "/usr/bin/su" ];
  grub2 = fromBase "grub" "2.12" [ "grub-editenv" "/usr/sbin/grub-reboot" "/usr/sbin/grub-set-default" ];
  curl = fromBase "curl" "8.14" [ "curl" ];
  git = fromBase "git" "2.47" [ "git" ];
  jq = fromBase "jq" "1.7" [ "jq" ];
  rsync = fromBase "rsync" "3.4" [ "rsync" ];
  sudo = fromBase "sudo" "1.9" [ "sudo" ];
  # What every NixOS has in its path, as the base system has it.
  base-tools = fromBase "base-tools" "1" [
    "awk" "base64" "basename" "cat" "chgrp" "chmod" "chown" "cmp" "cp" "cut" "date" "dd" "df" "diff" "dirname" "du" "echo" "env" "expr"
    "false" "find" "flock" "getent" "grep" "gzip" "head" "hostname" "id" "install" "ln" "ls" "md5sum" "mkdir" "mkfifo" "mktemp" "mount"
    "mountpoint" "mv" "nproc" "nsenter" "od" "paste" "printf" "pwd" "readlink" "realpath" "rm" "rmdir" "sed" "seq" "setsid"
    "sha256sum" "sleep" "sort" "split" "stat" "stty" "sync" "tail" "tar" "tee" "test" "timeout" "touch" "tr" "true"
    "truncate" "umount" "uname" "uniq" "unshare" "wc" "whoami" "xargs" "yes" "zcat"
  ];
  glibcLocales = final.emptyDirectory;

  linuxPackages = linuxPackagesOf "6.12.9";
  linuxPackages_latest = linuxPackagesOf "6.18.4";
  linux = linuxPackages.kernel;

  hello = final.stdenv.mkDerivation {
    pname = "hello";
    version = "2.12.1";
    meta.mainProgram = "hello";
    buildCommand = ''
      mkdir -p $out/bin
      printf '#!%s\necho "Hello, world!"\n' ${runtimeShell} > $out/bin/hello
      chmod +x $out/bin/hello
    '';
  };
  figlet = final.writeShellScriptBin "figlet" ''echo "$*"'';
  cowsay = final.writeShellScriptBin "cowsay" ''echo "< $* >"'';

  # Polls, which is enough for services that wait for a file to come or go.
  inotify-tools = final.writeShellScriptBin "inotifywait" ''
    while [ $# -gt 1 ]; do case $1 in -e|--format) ev=$2; shift 2 ;; *) shift ;; esac; done
    if [ -d "$1" ]; then seen=
      while :; do for f in "$1"/*; do case "$seen" in *"|$f|"*) ;; *) seen="$seen|$f|"; echo "''${f##*/}" ;; esac; done; sleep 0.2; done
    else while [ -e "$1" ]; do sleep 0.2; done; fi
  '';

  switch-to-configuration-ng = builtins.path { name = "switch-to-configuration"; path = ../blobs/switch; };
}
