# Two disks in sparse files, for one host known by its name and its network.

portal_group "lan" {
  tag = 1
  portal "192.0.2.1:3260" {}
}

auth "host1" {
  type              = "none"
  initiator_name    = ["iqn.1993-08.org.debian:01:host1"]
  initiator_address = ["192.0.2.0/24"]
}

backend "file" "boot" {
  path   = "/srv/luns/boot.img"
  size   = "40GiB"
  create = true # made when it does not exist, grown when it is smaller
}

backend "file" "data" {
  path      = "/srv/luns/data.img"
  size      = "2TiB"
  create    = true
  direct_io = true # past the page cache
}

target "iqn.2026-11.com.example:host1" {
  alias = "host1's disks"
  auth  = "host1"

  lun "0" {
    backend = backend.file.boot
    thin    = true # UNMAP gives space back to the file system
  }

  lun "1" {
    backend    = backend.file.data
    block_size = 4096
    thin       = true
  }
}
