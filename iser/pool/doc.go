// Package pool is the registered memory of one RDMA device: buffers for receives,
// sends and the data of tasks, cut from slabs that are registered once and stay
// registered until the device is given up.
//
// Memory belongs to connections by way of accounts. When the pool is short, an
// account gets no more than its share, so that a busy connection does not starve
// the others.
package pool
