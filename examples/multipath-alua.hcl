# Two ways to the same disk, of which initiators with multipath take the better
# one as long as it is there. dm-multipath and VMware ask for the states; nothing
# has to be said about them there.

portal_group "fast" {
  tag = 1
  portal "192.0.2.1:3260" {}
}

portal_group "slow" {
  tag = 2
  portal "198.51.100.1:3260" {}
}

auth "hosts" {
  type           = "none"
  initiator_name = ["iqn.2026-11.com.example:host1", "iqn.2026-11.com.example:host2"]
}

backend "file" "vol1" {
  path   = "/srv/luns/vol1.img"
  size   = "100GiB"
  create = true
}

target "iqn.2026-11.com.example:vol1" {
  auth          = "hosts"
  portal_groups = ["fast", "slow"]

  # For all LUNs of the target; a lun block may have an alua block of its own.
  alua {
    group "fast" {
      state     = "active/optimized"
      preferred = true
    }
    group "slow" {
      state = "active/non-optimized"
    }
  }

  lun "0" {
    backend = backend.file.vol1
  }
}
