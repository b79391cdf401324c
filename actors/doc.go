// Package actors is the tree of iserd: portals accept connections, connections
// log in and join sessions, targets admit sessions and coordinate task
// management, and LUN actors keep logical units alive.
//
//	node                    root: spawns the rest, never restarts
//	├─ sessions             supervisor of what comes and goes
//	│  ├─ conn-N            one connection; its mailbox is run by the goroutine
//	│  │                    that owns the socket. Stopped on a fault, never restarted
//	│  └─ session-TSIH      one I_T nexus. Stopped on a fault, never restarted
//	├─ rdma-PROVIDER        the devices of one RDMA provider and their pumps
//	├─ portal-ADDR          one listening address. Restarted; the socket stays open
//	├─ target-IQN           admission, reinstatement, task management. Restarted
//	└─ lun-NAME             one logical unit behind its data port. Restarted with a
//	                        new backend; too many faults take it offline
//
// Commands never travel through a mailbox one by one: a connection runs them
// inline against the data port of the LUN (package luns/scsi). Messages are for
// control only.
package actors
