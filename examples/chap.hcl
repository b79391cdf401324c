# CHAP: the initiator proves that it knows its secret, and for the second target
# the target proves that it knows its own. Each secret is in a file that only the
# daemon may read:
#
#   install -d -m 0700 /etc/iserd/secrets
#   openssl rand -base64 12 | install -m 0600 /dev/stdin /etc/iserd/secrets/web

log {
  level = "info"
}

limits {
  login_timeout = "10s"
}

portal_group "lan" {
  tag            = 1
  discovery_auth = "web" # who may ask for the list of targets
  portal "192.0.2.1:3260" {}
}

auth "web" {
  type = "chap"
  user "web" {
    secret = file("/etc/iserd/secrets/web")
  }
}

auth "database" {
  type       = "mutual-chap"
  algorithms = ["SHA3-256", "SHA-256"] # not the older ones
  user "db1" {
    secret = file("/etc/iserd/secrets/db1")
  }
  user "db2" {
    secret = file("/etc/iserd/secrets/db2")
  }
  mutual {
    user   = "iserd"
    secret = file("/etc/iserd/secrets/iserd")
  }
}

backend "memory" "web" {
  size = "4GiB"
}

backend "block" "database" {
  path = "/dev/disk/by-id/nvme-eui.0025388b11b0a5c1"
}

target "iqn.2026-11.com.example:web" {
  auth = "web"
  lun "0" {
    backend = backend.memory.web
  }
}

target "iqn.2026-11.com.example:database" {
  auth = "database"
  lun "0" {
    backend     = backend.block.database
    serial      = "DB010000"
    naa         = "naa.3f3a1b2c3d4e5f60"
    write_cache = false # every write is durable before it is answered
  }
}
