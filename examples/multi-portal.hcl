# Several portals: IPv4 and IPv6 side by side in one group, and a group of its own
# for a storage network. What is used more than once is a local.

locals {
  network = "fd00:5a::/64"
  prefix  = env("ISERD_TARGET_PREFIX", "iqn.2026-11.com.example")
}

node {
  name = "gw1"
}

log {
  format = "json"
  levels = { "conn" = "debug" }
}

portal_group "lan" {
  tag = 1
  portal "0.0.0.0:3260" {}
  portal "[::]:3260" {}
}

portal_group "san" {
  tag = 2
  portal "192.0.2.1:3261" {}
  portal "[fd00:5a::1]:3261" {}
}

auth "san" {
  type              = "none"
  initiator_name    = [format("%s:client1", local.prefix), format("%s:client2", local.prefix)]
  initiator_address = [local.network, "192.0.2.0/24"]
}

backend "memory" "fast" {
  size = "8GiB"
}

backend "memory" "public" {
  size = "1GiB"
}

# Reached by the storage network only. The two initiators see different numbers,
# and one of them may not write.
target "iqn.2026-11.com.example:fast" {
  auth          = "san"
  portal_groups = ["san"]

  session {
    max_recv_data_segment_length = "1MiB"
    first_burst_length           = "512KiB"
    max_burst_length             = "4MiB"
    header_digest                = ["CRC32C", "None"]
    data_digest                  = ["CRC32C", "None"]
  }

  lun "0" {
    backend = backend.memory.fast
  }

  initiator "iqn.2026-11.com.example:client1" {}
  initiator "iqn.2026-11.com.example:client2" {
    luns      = { "5" = "0" } # LUN as seen by the initiator = LUN of the target
    read_only = ["5"]
  }
}

# Reached by both.
target "iqn.2026-11.com.example:public" {
  portal_groups = ["lan", "san"]
  insecure      = true

  lun "0" {
    backend = backend.memory.public
  }
}
