#!/bin/sh
# Makes the files of this folder with the real sops (3.11.0 made those that are here), for the key in ../keys:
# plain.* is what is encrypted, *.enc.* what sops makes of it, by the rule that is in the name.
set -eu
cd "$(dirname "$0")"
sops=${SOPS:-sops}
ssh=$(cut -d ' ' -f 1,2 ../keys/ed25519.pub)
age=$(cat ../keys/ed25519.age)
encrypt() { # PLAIN ENCRYPTED RULE OPTIONS…
    plain=$1 encrypted=$2 rule=$3
    shift 3
    printf 'creation_rules: [{age: "%s"%s}]\n' "$age" "${rule:+, $rule}" >"$config"
    "$sops" --config "$config" encrypt "$@" --filename-override "$plain" "$plain" >"$encrypted"
}
config=$(mktemp)
trap 'rm "$config"' EXIT
for form in yaml json env ini; do encrypt plain.$form all.enc.$form ''; done
encrypt plain.bin all.enc.bin '' --input-type binary --output-type binary
encrypt plain.yaml unencrypted-suffix.enc.yaml 'unencrypted_suffix: _clear'
encrypt plain.yaml encrypted-suffix.enc.yaml 'encrypted_suffix: _secret'
encrypt plain.yaml encrypted-regex.enc.yaml 'encrypted_regex: "^(deep|a.list)$"'
encrypt plain.yaml unencrypted-regex.enc.yaml 'unencrypted_regex: "^(deep|a.list)$"'
encrypt plain.yaml encrypted-comment.enc.yaml 'encrypted_comment_regex: "^ encrypt"'
encrypt plain.yaml unencrypted-comment.enc.yaml 'unencrypted_comment_regex: "^ clear"'
encrypt plain.yaml only-encrypted.enc.yaml 'mac_only_encrypted: true, encrypted_suffix: _secret'
encrypt plain.json only-encrypted.enc.json 'mac_only_encrypted: true, encrypted_suffix: _secret'
encrypt plain.env encrypted-suffix.enc.env 'encrypted_suffix: _secret'
encrypt plain.ini encrypted-suffix.enc.ini 'encrypted_suffix: _secret'
age=$ssh
encrypt plain.yaml ssh.enc.yaml ''
