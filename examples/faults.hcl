# For testing initiators: a disk that is slow, and one that fails now and then.

portal_group "local" {
  tag = 1
  portal "127.0.0.1:3260" {}
}

backend "memory" "slow" {
  size = "1GiB"
}

backend "memory" "failing" {
  size = "1GiB"
}

backend "null" "hole" {
  size = "1TiB"
}

target "iqn.2026-11.com.example:test" {
  insecure = true

  lun "0" {
    backend = backend.memory.slow
    filter "delay" {
      read   = "5ms"
      write  = "10ms"
      random = "5ms" # up to so much more
    }
  }

  lun "1" {
    backend = backend.memory.failing
    filter "stats" {} # logged when the daemon stops
    filter "fault" {
      operations = ["read"]
      error      = "medium"
      rate       = 0.01
      offset     = "100MiB" # only requests that touch this range
      length     = "1MiB"
    }
  }

  # Reads as zeros and drops what is written: measures everything but the store.
  lun "2" {
    backend = backend.null.hole
  }
}
