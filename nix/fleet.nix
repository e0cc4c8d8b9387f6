# Which hosts a source declares, and in which form. Forces no host.
source:
if source.form == null then
  { inherit (source) form outputs; }
else
  {
    inherit (source) form allowApplyAll machinesFile;
    schema = source.schema or null;
    hosts = builtins.attrNames source.nodes;
  }
