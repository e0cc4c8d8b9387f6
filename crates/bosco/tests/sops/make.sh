#!/bin/sh
# Makes the files of this folder with the real sops (3.11.0 made those that are here). ada.txt opens them; web.pub and
# db.pub are hosts, and gone is a host that has left.
set -eu
cd "$(dirname "$0")"
ada=age1cwy2zm53pz542yt754nse6xqj3c2tg6j8n0du74nsq0z9ygprghqepf689
web=age1g43mccq87434n56ldxdr256fhu70en2klze27s4876n0hwhq7scq6tcsvh
db=age1axw5puagsuztzl7p70epf6j0r97gjfujj4agvq0nu2r8zqq9msvswx62zp
gone=age10vpxvwp6l0rcgwdza5ec2ct4rpz9vwqwpyetjellh7llr5afxf8q4kqjtx
encrypt() { "${SOPS:-sops}" --config /dev/null encrypt --age "$1" --filename-override "$2" /dev/stdin >"$2"; }
printf 'token: correct-Horse-battery-9\ndb:\n    password: "two \"lines\"\\nof it"\n' | encrypt "$ada,$web,$gone" web.yaml
printf 'PASSWORD=staple-Battery-7\n' | encrypt "$ada,$web,$db" all.env
