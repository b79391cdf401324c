// Preloaded to libiscsi's programs: memory is never given back. The iSER part of
// libiscsi 1.19.0 (Debian 12) goes on using a connection that it has freed, in the
// thread of its connection manager (lib/iser.c, cm_thread), and dies of it more often
// than not.
void free(void *p)
{
	(void)p;
}
