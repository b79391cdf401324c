# The least that serves something: 1 GiB of memory, open to everybody who can
# reach this host's port 3260 on the loopback interface.

portal_group "local" {
  tag = 1
  portal "127.0.0.1:3260" {}
}

backend "memory" "scratch" {
  size = "1GiB"
}

target "iqn.2026-11.com.example:scratch" {
  insecure = true # no login, no list of initiators

  lun "0" {
    backend = backend.memory.scratch
    thin    = true
  }
}
