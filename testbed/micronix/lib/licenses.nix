# The licenses that configurations name.
{ lib }:
lib.mapAttrs (name: id: { shortName = name; spdxId = id; fullName = id; free = true; }) {
  mit = "MIT"; asl20 = "Apache-2.0"; bsd2 = "BSD-2-Clause"; bsd3 = "BSD-3-Clause"; gpl2Only = "GPL-2.0-only";
  gpl3Only = "GPL-3.0-only"; gpl3Plus = "GPL-3.0-or-later"; lgpl21Plus = "LGPL-2.1-or-later"; isc = "ISC"; mpl20 = "MPL-2.0";
} // { unfree = { shortName = "unfree"; fullName = "Unfree"; free = false; }; }
