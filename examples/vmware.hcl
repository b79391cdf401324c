# A datastore for two ESXi hosts; not tried against ESXi yet. ESXi takes blocks of 512 bytes, CHAP with MD5
# and secrets of 12 to 16 characters. ALUA states cannot be configured yet.

portal_group "vmk" {
  tag = 1
  portal "192.0.2.1:3260" {}
  portal "198.51.100.1:3260" {}
}

auth "esx" {
  type           = "chap"
  initiator_name = ["iqn.1998-01.com.vmware:esx01", "iqn.1998-01.com.vmware:esx02"]
  user "esx" {
    secret = file("/etc/iserd/secrets/esx")
  }
}

backend "block" "datastore" {
  path = "/dev/disk/by-id/scsi-35000c500a1b2c3d4"
}

target "iqn.2026-11.com.example:datastore" {
  alias = "Datastore"
  auth  = "esx"

  lun "0" {
    backend = backend.block.datastore
    serial  = "DATASTORE0" # keep serial and naa when the target is renamed
    naa     = "naa.3f3a1b2c3d4e0001"
  }
}
