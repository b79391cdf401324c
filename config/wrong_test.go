package config_test

import (
	"strings"
	"testing"

	"github.com/iserd/iserd/config"
)

// Parts of a configuration that is right; a case replaces one of them.
const (
	lan      = "portal_group \"lan\" {\ntag = 1\nportal \"127.0.0.1:3260\" {}\n}\n"
	mem      = `backend "memory" "m" { size = "1GiB" }` + "\n"
	scratch  = "target \"iqn.2026-11.com.example:t\" {\ninsecure = true\nlun \"0\" { backend = backend.memory.m }\n}\n"
	chapAuth = "auth \"esx\" {\ntype = \"chap\"\nuser \"esx01\" { secret = file(\"/etc/iserd/s/esx01\") }\n}\n"
)

// withTarget is a configuration whose target holds lines besides its LUN.
func withTarget(lines string) string {
	return lan + mem + "target \"iqn.2026-11.com.example:t\" {\ninsecure = true\n" + lines +
		"\nlun \"0\" { backend = backend.memory.m }\n}\n"
}

// withSession is a configuration whose target's session block holds line.
func withSession(line string) string { return withTarget("session {\n" + line + "\n}") }

// withLUN is a configuration whose LUN holds lines besides its backend.
func withLUN(lines string) string {
	return lan + mem + "target \"iqn.2026-11.com.example:t\" {\ninsecure = true\nlun \"0\" {\nbackend = backend.memory.m\n" + lines + "\n}\n}\n"
}

// withBackend is a configuration whose LUN 0 is on the given backend.
func withBackend(ref, block string) string {
	return lan + block + "\ntarget \"iqn.2026-11.com.example:t\" {\ninsecure = true\nlun \"0\" { backend = " + ref + " }\n}\n"
}

// withFile is a configuration on a file backend with the given arguments.
func withFile(lines string) string {
	return withBackend("backend.file.f", "backend \"file\" \"f\" {\n"+lines+"\n}")
}

// withAuth is a configuration with an auth block of the given lines.
func withAuth(lines string) string {
	return lan + mem + "auth \"a\" {\n" + lines + "\n}\n" +
		"target \"iqn.2026-11.com.example:t\" {\nauth = \"a\"\nlun \"0\" { backend = backend.memory.m }\n}\n"
}

// withTop is a configuration that is right but for the given lines at its top.
func withTop(lines string) string { return lines + "\n" + lan + mem + scratch }

// wrong are configurations with one mistake. The ‸ stands where the mistake is
// to be reported; want is a part of "summary: detail".
var wrong = []struct{ name, src, want string }{
	// Syntax.
	{"syntax: unfinished block", "node ‸{\n  name = \"x\"\n", "Unclosed configuration block"},
	{"syntax: two arguments in a line", "node { name = \"x\"‸, state = 1 }\n", "Invalid single-argument block definition"},
	{"syntax: lun number not quoted", "target \"iqn.2026-11.com.example:t\" {\n‸lun 0 {}\n}", "Argument or block definition required"},
	{"syntax: unfinished string", "node { name = \"x‸", "Unterminated template string"},
	{"syntax: duplicate argument", "node {\nname = \"a\"\n‸name = \"b\"\n}\n", "Attribute redefined"},
	{"syntax: label with a template", "auth \"‸${1}\" {}", "Invalid string literal"},

	// Top level.
	{"unknown block", withTop("‸tarpet \"x\" {}"), `Did you mean "target"?`},
	{"unknown argument at top", withTop("‸listen = 1"), "Unsupported argument"},
	{"two node blocks", withTop("node {}\n‸node {}"), "already written at iserd.hcl:1:1"},
	{"console: relative path", withTop("console { listen = ‸\"unix:run/x\" }"), "Invalid console address"},
	{"console: TCP", withTop("console { listen = ‸\"127.0.0.1:80\" }"), "Invalid console address"},
	{"console: remote without certificate", withTop("console {\nremote ‸{\n listen = \"0.0.0.0:1\"\n key = \"/k\"\n client_ca = \"/c\"\n }\n}"), "Missing required argument"},
	{"http: not numeric", withTop("http { listen = ‸\"localhost:9260\" }"), "Invalid address"},
	{"http: not loopback", withTop("http { listen = ‸\"0.0.0.0:9260\" }"), "Address not allowed"},
	{"http: short secret", withTop("http {\nlisten = \"127.0.0.1:9260\"\nsecret = ‸\"0123456789abcdefghi\"\n}"), "openssl rand"},
	{"http: secret empty", withTop("http {\nlisten = \"127.0.0.1:9260\"\nsecret = ‸\"\"\n}"), "Empty secret"},
	{"isns", withTop("‸isns { server = \"x\" }"), "Not supported in this version"},
	{"cluster", withTop("‸cluster \"etcd\" { prefix = \"/x\" }"), "Not supported in this version"},
	{"target without portals", mem + "‸" + scratch, "No portal group"},

	// Expressions.
	{"unknown local", withTop("node { name = local‸.x }"), "Unsupported attribute"},
	{"unknown variable", withTop("node { name = ‸var.x }"), "Unknown variable"},
	{"unknown function", withTop("node { name = ‸upper(\"x\") }"), "Call to unknown function"},
	{"locals in a circle", withTop("locals {\na = ‸local.b\nb = local.a\n}"), "depends on itself"},
	{"locals: a block inside", withTop("locals {\n‸x {}\n}"), "Unexpected \"x\" block"},
	{"locals twice", withTop("locals { a = 1 }\nlocals { ‸a = 2 }"), "already defined at iserd.hcl:1:10"},
	{"env not set", withTop("node { name = env(\"‸NOPE\") }"), "the environment variable NOPE is not set"},
	{"env with three arguments", withTop("node { name = ‸env(\"NOPE\", \"a\", \"b\") }"), "env takes a name and one default"},
	{"format with a wide width", withTop("node { name = format(\"‸%999999d\", 1) }"), "widths have three digits"},
	{"size() of nonsense", withBackend("backend.memory.x", "backend \"memory\" \"x\" { size = size(\"‸1XB\") }"), "sizes are a whole number"},

	// node, log, limits.
	{"node: state_dir", withTop("node { state_dir = ‸\"state\" }"), "absolute"},
	{"node: user", withTop("node { ‸user = \"iserd\" }"), "does not implement the argument \"user\""},
	{"node: name is a list", withTop("node { name = ‸[1] }"), `The argument "name" is a string`},
	{"log: level", withTop("log { level = ‸\"warning\" }"), "one of trace, debug, info, warn, error, off"},
	{"log: level in upper case", withTop("log { level = ‸\"INFO\" }"), `Did you mean "info"?`},
	{"log: format", withTop("log { format = ‸\"jsn\" }"), `Did you mean "json"?`},
	{"log: output", withTop("log { output = ‸\"stdout\" }"), `The output is "stderr", "journald" or "file:/PATH"`},
	{"log: relative file", withTop("log { output = ‸\"file:iserd.log\" }"), "is absolute"},
	{"log: level of a part", withTop("log { levels = ‸{ tcp = \"loud\" } }"), "one of trace"},
	{"log: levels is a string", withTop("log { levels = ‸\"debug\" }"), "is a map of strings"},
	{"limits: sessions is text", withTop("limits { sessions = ‸\"many\" }"), "is a whole number"},
	{"limits: sessions is a fraction", withTop("limits { sessions = ‸1.5 }"), "is a whole number"},
	{"limits: sessions zero", withTop("limits { sessions = ‸0 }"), "from 1 to 65535; this is 0"},
	{"limits: login_timeout too long", withTop("limits { login_timeout = ‸\"2m\" }"), "from 5s to 60s; this is 2m0s"},
	{"limits: duration without unit", withTop("limits { nop_interval = ‸10 }"), "The number has no unit"},
	{"limits: duration nonsense", withTop("limits { nop_timeout = ‸\"soon\" }"), "Durations are numbers with units"},
	{"limits: buffer memory too small", withTop("limits { buffer_memory = ‸\"1MiB\" }"), "from 16MiB to 1TiB; this is 1MiB"},
	{"limits: unknown", withTop("limits { ‸session = 1 }"), `Did you mean "sessions"?`},
	{"limits: commands_per_lun", withTop("limits { ‸commands_per_lun = 1 }"), "Not supported in this version"},

	// auth.
	{"auth: type missing", strings.Replace(withAuth(""), "auth \"a\" {", "auth \"a\" ‸{", 1), `The argument "type" is required`},
	{"auth: type unknown", withAuth("type = ‸\"srp\""), "one of none, chap, mutual-chap"},
	{"auth: no users", lan + mem + "‸auth \"a\" { type = \"chap\" }\ntarget \"iqn.2026-11.com.example:t\" {\nauth = \"a\"\nlun \"0\" { backend = backend.memory.m }\n}\n", "needs at least one user"},
	{"auth: users without chap", withAuth("type = \"none\"\ninitiator_name = [\"iqn.2026-11.com.example:i\"]\n‸user \"u\" { secret = file(\"/etc/iserd/s/esx01\") }"), "User without CHAP"},
	{"auth: mutual with chap", withAuth("type = \"chap\"\nuser \"u\" { secret = file(\"/etc/iserd/s/esx01\") }\n‸mutual {\nuser = \"t\"\nsecret = env(\"MUTUAL\")\n}"), "Set type = \"mutual-chap\""},
	{"auth: mutual with none", withAuth("type = \"none\"\ninitiator_name = [\"iqn.2026-11.com.example:i\"]\n‸mutual {\nuser = \"t\"\nsecret = env(\"MUTUAL\")\n}"), "Set type = \"mutual-chap\""},
	{"auth: mutual missing", withAuth("type = ‸\"mutual-chap\"\nuser \"u\" { secret = file(\"/etc/iserd/s/esx01\") }"), "needs a mutual block"},
	{"auth: two mutual blocks", withAuth("type = \"mutual-chap\"\nuser \"u\" { secret = file(\"/etc/iserd/s/esx01\") }\nmutual {\nuser = \"t\"\nsecret = env(\"MUTUAL\")\n}\n‸mutual {\nuser = \"t\"\nsecret = env(\"MUTUAL\")\n}"), "Duplicate mutual block"},
	{"auth: same secret both ways", withAuth("type = \"mutual-chap\"\nuser \"u\" { secret = env(\"MUTUAL\") }\nmutual {\nuser = \"t\"\nsecret = ‸env(\"MUTUAL\")\n}"), "Same secret in both directions"},
	{"auth: secret too short", withAuth("type = \"chap\"\nuser \"u\" { secret = ‸\"elevenchars\" }"), "The secret has 11 bytes; the least is 12"},
	{"auth: secret file too short", withAuth("type = \"chap\"\nuser \"u\" { secret = ‸file(\"/etc/iserd/s/short\") }"), "The secret has 10 bytes"},
	{"auth: secret empty", withAuth("type = \"chap\"\nuser \"u\" { secret = ‸file(\"/etc/iserd/s/empty\") }"), "The secret is empty"},
	{"auth: secret null", withAuth("type = \"chap\"\nuser \"u\" { secret = ‸null }"), "is a string"},
	{"auth: secret a list", withAuth("type = \"chap\"\nuser \"u\" { secret = ‸[\"a\"] }"), "is a string"},
	{"auth: secret file for all to read", withAuth("type = \"chap\"\nuser \"u\" { secret = file(\"‸/etc/iserd/s/public\") }"), "open to every user of this host (mode 0644)"},
	{"auth: secret file missing", withAuth("type = \"chap\"\nuser \"u\" { secret = file(\"‸/etc/iserd/s/nobody\") }"), "file does not exist"},
	{"auth: secret file relative", withAuth("type = \"chap\"\nuser \"u\" { secret = file(\"‸esx01\") }"), "must be absolute"},
	{"auth: secret file a directory", withAuth("type = \"chap\"\nuser \"u\" { secret = file(\"‸/etc/iserd/s/asdir\") }"), "invalid argument"},
	{"auth: secret file too long", withAuth("type = \"chap\"\nuser \"u\" { secret = file(\"‸/etc/iserd/s/toolong\") }"), "invalid argument"},
	{"auth: user twice", withAuth("type = \"chap\"\nuser \"u\" { secret = file(\"/etc/iserd/s/esx01\") }\nuser ‸\"u\" { secret = file(\"/etc/iserd/s/esx02\") }"), "already defined at"},
	{"auth: user empty", withAuth("type = \"chap\"\nuser ‸\"\" { secret = file(\"/etc/iserd/s/esx01\") }"), "The user name is empty"},
	{"auth: mutual user empty", withAuth("type = \"mutual-chap\"\nuser \"u\" { secret = file(\"/etc/iserd/s/esx01\") }\nmutual {\nuser = ‸\"\"\nsecret = env(\"MUTUAL\")\n}"), "Too short"},
	{"auth: algorithm", withAuth("type = \"chap\"\nalgorithms = ‸[\"md4\"]\nuser \"u\" { secret = file(\"/etc/iserd/s/esx01\") }"), "one of SHA3-256, SHA-256, SHA1, MD5"},
	{"auth: no algorithm", withAuth("type = \"chap\"\nalgorithms = ‸[]\nuser \"u\" { secret = file(\"/etc/iserd/s/esx01\") }"), "needs at least one element"},
	{"auth: algorithm twice", withAuth("type = \"chap\"\nalgorithms = ‸[\"MD5\", \"MD5\"]\nuser \"u\" { secret = file(\"/etc/iserd/s/esx01\") }"), "twice"},
	{"auth: algorithms with none", withAuth("type = \"none\"\ninitiator_name = [\"iqn.2026-11.com.example:i\"]\nalgorithms = ‸[\"MD5\"]"), "no algorithm is used"},
	{"auth: initiator_name", withAuth("type = \"none\"\ninitiator_name = ‸[\"esx01\"]"), "begin with iqn., eui. or naa."},
	{"auth: initiator_name a string", withAuth("type = \"none\"\ninitiator_name = ‸\"iqn.2026-11.com.example:i\""), "is a list of strings"},
	{"auth: address", withAuth("type = \"none\"\ninitiator_address = ‸[\"10.0.0.300\"]"), "neither an address nor a network"},
	{"auth: network with host bits", withAuth("type = \"none\"\ninitiator_address = ‸[\"10.1.2.3/8\"]"), `Did you mean "10.0.0.0/8"?`},
	{"auth: name twice", chapAuth + "auth ‸\"esx\" {\ntype = \"chap\"\nuser \"esx02\" { secret = file(\"/etc/iserd/s/esx02\") }\n}\n" + lan + mem + scratch, "already defined at iserd.hcl:1:6"},
	{"auth: name with a space", withTop("auth ‸\"my esx\" {\ntype = \"chap\"\nuser \"u\" { secret = file(\"/etc/iserd/s/esx01\") }\n}"), "Invalid name"},
	{"auth: no label", withTop("auth ‸{ type = \"none\" }"), "All auth blocks must have 1 labels"},

	// Portal groups.
	{"portal group: tag missing", "portal_group \"lan\" ‸{\nportal \"127.0.0.1:3260\" {}\n}\n" + mem + scratch, `The argument "tag" is required`},
	{"portal group: tag zero", "portal_group \"lan\" {\ntag = ‸0\nportal \"127.0.0.1:3260\" {}\n}\n" + mem + scratch, "from 1 to 65535"},
	{"portal group: tag twice", lan + "portal_group \"wan\" {\ntag = ‸1\nportal \"127.0.0.2:3260\" {}\n}\n" + mem + strings.Replace(scratch, "insecure", "portal_groups = [\"lan\", \"wan\"]\ninsecure", 1), "already defined at iserd.hcl:2:7"},
	{"portal group: name twice", lan + "portal_group ‸\"lan\" {\ntag = 2\nportal \"127.0.0.2:3260\" {}\n}\n" + mem + strings.Replace(scratch, "insecure", "portal_groups = [\"lan\"]\ninsecure", 1), "already defined"},
	{"portal group: no portal", "‸portal_group \"lan\" { tag = 1 }\n" + mem + scratch, "needs at least one portal"},
	{"portal group: discovery_auth", "portal_group \"lan\" {\ntag = 1\ndiscovery_auth = ‸\"lab\"\nportal \"127.0.0.1:3260\" {}\n}\n" + mem + scratch, "There is no block auth \"lab\""},
	{"portal: no port", "portal_group \"lan\" {\ntag = 1\nportal ‸\"10.0.0.1\" {}\n}\n" + mem + scratch, `Did you mean "10.0.0.1:3260"?`},
	{"portal: v6 no port", "portal_group \"lan\" {\ntag = 1\nportal ‸\"[fd00::1]\" {}\n}\n" + mem + scratch, `Did you mean "[fd00::1]:3260"?`},
	{"portal: no address", "portal_group \"lan\" {\ntag = 1\nportal ‸\":3260\" {}\n}\n" + mem + scratch, `write "0.0.0.0:3260" and "[::]:3260"`},
	{"portal: host name", "portal_group \"lan\" {\ntag = 1\nportal ‸\"gw1:3260\" {}\n}\n" + mem + scratch, "numeric address"},
	{"portal: port zero", "portal_group \"lan\" {\ntag = 1\nportal ‸\"10.0.0.1:0\" {}\n}\n" + mem + scratch, "from 1 to 65535"},
	{"portal: twice", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" {}\nportal ‸\"10.0.0.1:3260\" {}\n}\n" + mem + scratch, "already defined at iserd.hcl:3:8"},
	{"portal: overlap", "portal_group \"lan\" {\ntag = 1\nportal \"0.0.0.0:3260\" {}\nportal ‸\"10.0.0.1:3260\" {}\n}\n" + mem + scratch, "cannot both be listened on"},
	{"portal: transport", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" { transport = ‸\"udp\" }\n}\n" + mem + scratch, "one of auto, tcp, iser"},
	{"portal: iser", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" {\niser { ‸invalidation = false }\n}\n}\n" + mem + scratch, "Unsupported argument"},
	{"portal: advertise without port", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" { advertise = ‸\"192.0.2.1\" }\n}\n" + mem + scratch, `write an address and a port`},
	{"portal: advertise all", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" { advertise = ‸\"0.0.0.0:3260\" }\n}\n" + mem + scratch, `initiators need one of them`},
	{"portal: advertise zone", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" { advertise = ‸\"[fe80::1%eth0]:3260\" }\n}\n" + mem + scratch, `means nothing on another host`},
	{"portal: advertise nonsense", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" { advertise = ‸\"a b:3260\" }\n}\n" + mem + scratch, `neither a numeric address nor a DNS name`},
	{"portal: advertise port", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" { advertise = ‸\"san:0\" }\n}\n" + mem + scratch, `from 1 to 65535`},
	{"portal: redirect to itself", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" {\nredirect { to = ‸\"10.0.0.1:3260\" }\n}\n}\n" + mem + scratch, `is this portal`},
	{"portal: redirect to itself, advertised", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" {\nadvertise = \"san:3260\"\nredirect { to = ‸\"san:3260\" }\n}\n}\n" + mem + scratch, `is this portal`},
	{"portal: redirect nowhere", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" {\nredirect ‸{\npermanent = true\n}\n}\n}\n" + mem + scratch, `The argument "to" is required`},
	{"portal: device", "portal_group \"lan\" {\ntag = 1\nportal \"10.0.0.1:3260\" { ‸device = \"mlx5_0\" }\n}\n" + mem + scratch, "Not supported in this version"},

	// Backends.
	{"backend: rbd", withBackend("backend.rbd.x", "backend ‸\"rbd\" \"x\" { pool = \"rbd\" }"), "does not implement the backend kind \"rbd\""},
	{"backend: nbd", withBackend("backend.nbd.x", "backend ‸\"nbd\" \"x\" { uri = \"nbd://x\" }"), "Not supported in this version"},
	{"backend: unknown kind", withBackend("backend.fil.x", "backend ‸\"fil\" \"x\" { path = \"/x\" }"), `Did you mean "file"?`},
	{"backend: one label", withTop("backend \"file\" ‸{ path = \"/x\" }"), "Missing name for backend"},
	{"backend: name", withTop("backend \"memory\" ‸\"a b\" { size = \"1MiB\" }"), "Invalid name"},
	{"backend: twice", lan + mem + "backend \"memory\" ‸\"m\" { size = \"1GiB\" }\n" + scratch, "already defined"},
	{"backend: memory without size", withBackend("backend.memory.x", "backend \"memory\" \"x\" ‸{\n}"), `The argument "size" is required`},
	{"backend: size nonsense", withBackend("backend.memory.x", "backend \"memory\" \"x\" { size = ‸\"40GiBx\" }"), "Sizes are a whole number"},
	{"backend: size negative", withBackend("backend.memory.x", "backend \"memory\" \"x\" { size = ‸-1 }"), "Sizes are a whole number"},
	{"backend: size too large", withBackend("backend.memory.x", "backend \"memory\" \"x\" { size = ‸\"20TiB\" }"), "from 4KiB to 16TiB"},
	{"backend: size beyond int64", withBackend("backend.memory.x", "backend \"memory\" \"x\" { size = ‸\"99999EiB\" }"), "more than 9223372036854775807 bytes"},
	{"backend: size not in blocks", withBackend("backend.memory.x", "backend \"memory\" \"x\" { size = ‸1048577 }"), "a multiple of 512"},
	{"backend: size true", withBackend("backend.memory.x", "backend \"memory\" \"x\" { size = ‸true }"), "Sizes are a whole number"},
	{"backend: null size missing", withBackend("backend.null.x", "backend \"null\" \"x\" ‸{\n}"), `The argument "size" is required`},
	{"file: path missing", strings.Replace(withFile(""), "\"f\" {", "\"f\" ‸{", 1), `The argument "path" is required`},
	{"file: path relative", withFile("path = ‸\"boot.img\""), "is an absolute path"},
	{"file: absent", withFile("path = ‸\"/srv/luns/none.img\""), "does not exist. Set create = true"},
	{"file: directory absent", withFile("path = ‸\"/srv/nowhere/none.img\"\ncreate = true\nsize = \"1GiB\""), "there is no directory /srv/nowhere"},
	{"file: create without size", withFile("path = \"/srv/luns/new.img\"\ncreate = ‸true"), "the file needs a size"},
	{"file: create read-only", withFile("path = \"/srv/luns/new.img\"\ncreate = ‸true\nread_only = true\nsize = \"1GiB\""), "cannot be created"},
	{"file: a directory", withFile("path = ‸\"/srv/luns\""), "is a directory"},
	{"file: a device", withFile("path = ‸\"/dev/sdb\""), `Use backend "block"`},
	{"file: a pipe", withFile("path = ‸\"/srv/luns/pipe\""), "not a regular file"},
	{"file: size mismatch", withFile("path = \"/srv/luns/boot.img\"\nsize = ‸\"41GiB\""), "has 40GiB (42949672960 bytes), and the configuration says 41GiB"},
	{"file: empty", withFile("path = ‸\"/srv/luns/empty.img\""), "is empty"},
	{"file: odd size", withFile("path = ‸\"/srv/luns/odd.img\""), "not a multiple of 512"},
	{"file: unknown argument", withFile("path = \"/srv/luns/boot.img\"\n‸directio = true"), `Did you mean "direct_io"?`},
	{"file: bool", withFile("path = \"/srv/luns/boot.img\"\ndirect_io = ‸\"maybe\""), "is true or false"},
	{"file: secret in a path", withFile("path = ‸file(\"/etc/iserd/s/esx01\")"), "Secret in a place that is shown"},
	{"file: same path twice", withFile("path = \"/srv/luns/boot.img\"\n}\nbackend \"file\" \"g\" {\npath = ‸\"/srv/luns//boot.img\""), "already defined"},
	{"block: absent", withBackend("backend.block.b", "backend \"block\" \"b\" { path = ‸\"/dev/nope\" }"), "No such device"},
	{"block: a file", withBackend("backend.block.b", "backend \"block\" \"b\" { path = ‸\"/srv/luns/boot.img\" }"), `Use backend "file"`},
	{"block: a terminal", withBackend("backend.block.b", "backend \"block\" \"b\" { path = ‸\"/dev/tty\" }"), "not a block device"},
	{"block: size", withBackend("backend.block.b", "backend \"block\" \"b\" {\npath = \"/dev/sdb\"\n‸size = 1\n}"), "Unsupported argument"},

	// Targets.
	{"target: name", lan + mem + strings.Replace(scratch, "\"iqn.2026-11.com.example:t\"", "‸\"disk1\"", 1), "begin with iqn., eui. or naa."},
	{"target: name in upper case", lan + mem + strings.Replace(scratch, "\"iqn.2026-11.com.example:t\"", "‸\"iqn.2026-11.com.example:T\"", 1), `lower case: "iqn.2026-11.com.example:t"`},
	{"target: name without date", lan + mem + strings.Replace(scratch, "\"iqn.2026-11.com.example:t\"", "‸\"iqn.com.example:t\"", 1), "iqn.YYYY-MM.DOMAIN"},
	{"target: name month 13", lan + mem + strings.Replace(scratch, "\"iqn.2026-11.com.example:t\"", "‸\"iqn.2026-13.com.example:t\"", 1), "iqn.YYYY-MM.DOMAIN"},
	{"target: name with a slash", lan + mem + strings.Replace(scratch, "\"iqn.2026-11.com.example:t\"", "‸\"iqn.2026-11.com.example:a/b\"", 1), "'/' is not allowed"},
	{"target: name too long", lan + mem + strings.Replace(scratch, "\"iqn.2026-11.com.example:t\"", "‸\"iqn.2026-11.com.example:"+strings.Repeat("x", 200)+"\"", 1), "the most is 223"},
	{"target: eui name", lan + mem + strings.Replace(scratch, "\"iqn.2026-11.com.example:t\"", "‸\"eui.0123\"", 1), "16 hexadecimal digits"},
	{"target: twice", withTop("") + "backend \"memory\" \"n\" { size = \"1GiB\" }\ntarget ‸\"iqn.2026-11.com.example:t\" {\ninsecure = true\nlun \"0\" { backend = backend.memory.n }\n}\n", "already defined"},
	{"target: open to everybody", lan + mem + "‸" + strings.Replace(scratch, "insecure = true\n", "", 1), "Target open to everybody"},
	{"target: open by auth none", lan + mem + "auth \"a\" { type = \"none\" }\n‸" + strings.Replace(scratch, "insecure = true", "auth = \"a\"", 1), "Target open to everybody"},
	{"target: open by network /0", lan + mem + "auth \"a\" {\ntype = \"none\"\ninitiator_address = [\"0.0.0.0/0\"]\n}\n‸" + strings.Replace(scratch, "insecure = true", "auth = \"a\"", 1), "Target open to everybody"},
	{"target: unknown auth", lan + mem + chapAuth + strings.Replace(scratch, "insecure = true", "portal_groups = [\"lan\"]\nauth = ‸\"esc\"", 1), `Did you mean "esx"?`},
	{"target: unknown portal group", withTarget("portal_groups = ‸[\"lam\"]"), `Did you mean "lan"?`},
	{"target: no portal group", withTarget("portal_groups = ‸[]"), "could not be reached"},
	{"target: which portal group", lan + "portal_group \"wan\" {\ntag = 2\nportal \"127.0.0.2:3260\" {}\n}\n" + mem + "‸" + scratch, `portal_groups = ["lan", "wan"]`},
	{"target: alias too long", withTarget("alias = ‸\"" + strings.Repeat("x", 256) + "\""), "Too long"},
	{"target: redirect in a circle", withTarget("redirect { to = ‸\"127.0.0.1:3260\" }"), "is a portal of this target"},
	{"target: unknown argument", withTarget("‸portal_group = [\"lan\"]"), `Did you mean "portal_groups"?`},
	{"target: insecure in text", withTarget("\n}\ntarget \"iqn.2026-11.com.example:u\" {\ninsecure = ‸\"yes\""), "is true or false"},

	// Sessions.
	{"session: two blocks", withTarget("session {}\n‸session {}"), "Duplicate session block"},
	{"session: first burst above maximum", withSession("first_burst_length = ‸\"2MiB\""), "must not exceed max_burst_length (1MiB)"},
	{"session: maximum below default first burst", withSession("max_burst_length = ‸\"64KiB\""), "first_burst_length (256KiB) must not exceed max_burst_length (64KiB)"},
	{"session: max_recv too small", withSession("max_recv_data_segment_length = ‸511"), "from 512B to 16777215B; this is 511B"},
	{"session: max_burst too large", withSession("max_burst_length = ‸\"16MiB\""), "from 512B to 16777215B; this is 16MiB"},
	{"session: max_connections", withSession("max_connections = ‸4"), "does not implement max_connections above 1"},
	{"session: max_connections beyond", withSession("max_connections = ‸70000"), "can only be 1"},
	{"session: error recovery", withSession("error_recovery_level = ‸1"), "Not supported in this version"},
	{"session: error recovery 3", withSession("error_recovery_level = ‸3"), "can only be 0"},
	{"session: r2t zero", withSession("max_outstanding_r2t = ‸0"), "from 1 to 65535"},
	{"session: time2wait", withSession("default_time2wait = ‸3601"), "from 0 to 3600"},
	{"session: digest", withSession("header_digest = ‸[\"crc32c\"]"), `Did you mean "CRC32C"?`},
	{"session: no digest", withSession("data_digest = ‸[]"), "needs at least one element"},
	{"session: digest a string", withSession("data_digest = ‸\"None\""), "is a list of strings"},
	{"session: immediate_data", withSession("immediate_data = ‸\"Yes\""), "is true or false"},
	{"session: data_pdu_in_order", withSession("‸data_pdu_in_order = false"), "Not supported in this version"},
	{"session: RFC spelling", withSession("‸MaxBurstLength = 512"), "Unsupported argument"},

	// LUNs.
	{"lun: backend missing", lan + mem + "target \"iqn.2026-11.com.example:t\" {\ninsecure = true\nlun \"0\" ‸{\n}\n}\n", `The argument "backend" is required`},
	{"lun: backend in quotes", lan + mem + strings.Replace(scratch, "backend.memory.m", "‸\"memory.m\"", 1), "without quotes: backend.KIND.NAME. Did you mean backend.memory.m?"},
	{"lun: backend unknown", lan + mem + strings.Replace(scratch, "backend.memory.m", "‸backend.memory.n", 1), "Did you mean backend.memory.m?"},
	{"lun: backend of a kind", lan + mem + strings.Replace(scratch, "backend.memory.m", "‸backend.memory", 1), "Invalid backend"},
	{"lun: backend a number", lan + mem + strings.Replace(scratch, "backend.memory.m", "‸1", 1), "Invalid backend"},
	{"lun: backend null", lan + mem + strings.Replace(scratch, "backend.memory.m", "‸null", 1), "Invalid backend"},
	{"lun: backend used twice", withLUN("}\nlun \"1\" {\nbackend = ‸backend.memory.m"), "Backend used twice"},
	{"lun: number", lan + mem + strings.Replace(scratch, "lun \"0\"", "lun ‸\"zero\"", 1), "A LUN is a number from 0 to"},
	{"lun: number with a zero before", lan + mem + strings.Replace(scratch, "lun \"0\"", "lun ‸\"00\"", 1), "A LUN is a number from 0 to"},
	{"lun: number too large", lan + mem + strings.Replace(scratch, "lun \"0\"", "lun ‸\"16384\"", 1), "A LUN is a number from 0 to"},
	{"lun: number twice", `backend "null" "n" { size = "1GiB" }` + "\n" + withLUN("}\nlun ‸\"0\" {\nbackend = backend.null.n"), "already defined"},
	{"lun: block size", withLUN("block_size = ‸1024"), "one of 512, 4096"},
	{"lun: threshold of memory", withLUN("thin = true\nthin_threshold = ‸80"), "a backend of kind \"file\""},
	{"lun: threshold out of range", withLUN("thin_threshold = ‸100"), "from 0 to 99"},
	{"lun: block size does not divide", lan + "backend \"file\" \"f\" { path = \"/srv/luns/s512.img\" }\ntarget \"iqn.2026-11.com.example:t\" {\ninsecure = true\nlun \"0\" {\nbackend = backend.file.f\nblock_size = ‸4096\n}\n}\n", "not a multiple of the block size 4096"},
	{"lun: serial too long", withLUN("serial = ‸\"" + strings.Repeat("1", 33) + "\""), "Too long"},
	{"lun: serial empty", withLUN("serial = ‸\"\""), "Too short"},
	{"lun: serial not ASCII", withLUN("serial = ‸\"é\""), "printable ASCII"},
	{"lun: vendor too long", withLUN("vendor = ‸\"NINECHARS\""), "the most is 8"},
	{"lun: product too long", withLUN("product = ‸\"SEVENTEENCHARSxxx\""), "the most is 16"},
	{"lun: naa", withLUN("naa = ‸\"3f3a1b2c3d4e5f60\""), "naa. and 16 lower-case"},
	{"lun: naa of LIO", withLUN("naa = ‸\"naa.60014051234567890123456789012345\""), "Not supported in this version"},
	{"lun: naa in upper case", withLUN("naa = ‸\"naa.3F3A1B2C3D4E5F60\""), "lower-case"},
	{"lun: shared", withLUN("‸shared = true"), "Not supported in this version"},
	{"alua: no group", withLUN("‸alua {}"), "is reached through portal group \"lan\" as well"},
	{"alua: state", withLUN("alua {\ngroup \"lan\" { state = ‸\"optimized\" }\n}"), "one of active/optimized, active/non-optimized"},
	{"alua: unknown group", withLUN("alua {\ngroup \"lan\" {}\ngroup ‸\"lam\" {}\n}"), `Did you mean "lan"?`},
	{"alua: group twice", withLUN("alua {\ngroup \"lan\" {}\ngroup ‸\"lan\" {}\n}"), "already defined"},
	{"alua: group of another target", "portal_group \"wan\" {\ntag = 2\nportal \"192.0.2.9:3260\" {}\n}\n" + withTarget("portal_groups = [\"lan\"]\nalua {\ngroup \"lan\" {}\ngroup ‸\"wan\" {}\n}"), "its portal_groups are [\"lan\"]"},
	{"alua: argument", withLUN("alua {\n‸implicit = true\ngroup \"lan\" {}\n}"), "Unsupported argument"},
	{"lun: thin", withLUN("thin = ‸1"), "is true or false"},
	{"filter: ratelimit", withLUN("filter ‸\"ratelimit\" { iops = 1 }"), "does not implement the filter kind \"ratelimit\""},
	{"filter: unknown", withLUN("filter ‸\"dely\" {}"), `Did you mean "delay"?`},
	{"filter: delay", withLUN("filter \"delay\" { read = ‸\"1h\" }"), "from 0s to 10m"},
	{"filter: delay argument", withLUN("filter \"delay\" { ‸reads = \"1ms\" }"), `Did you mean "read"?`},
	{"filter: fault error", withLUN("filter \"fault\" { error = ‸\"bad\" }"), "one of medium"},
	{"filter: fault error missing", withLUN("filter \"fault\" ‸{\n}"), `The argument "error" is required`},
	{"filter: fault rate", withLUN("filter \"fault\" {\nerror = \"medium\"\nrate = ‸1.5\n}"), "from 0 to 1; this is 1.5"},
	{"filter: fault rate zero", withLUN("filter \"fault\" {\nerror = \"medium\"\nrate = ‸0\n}"), "nothing would fail"},
	{"filter: fault rate text", withLUN("filter \"fault\" {\nerror = \"medium\"\nrate = ‸\"often\"\n}"), "is a number"},
	{"filter: fault offset", withLUN("filter \"fault\" {\nerror = \"medium\"\noffset = ‸\"1MiB\"\n}"), "Offset without length"},
	{"filter: stats argument", withLUN("filter \"stats\" { ‸x = 1 }"), "Unsupported argument"},

	// Initiators.
	{"initiator: name", withTarget("initiator ‸\"esx01\" {}"), "begin with iqn., eui. or naa."},
	{"initiator: twice", withTarget("initiator \"iqn.1998-01.com.vmware:esx01\" {}\ninitiator ‸\"iqn.1998-01.com.vmware:esx01\" {}"), "already defined"},
	{"initiator: unknown lun", withTarget("initiator \"iqn.1998-01.com.vmware:esx01\" {\nluns = ‸{ \"0\" = \"1\" }\n}"), "The target has no LUN 1"},
	{"initiator: lun not a number", withTarget("initiator \"iqn.1998-01.com.vmware:esx01\" {\nluns = ‸{ \"a\" = \"0\" }\n}"), "A LUN is a number"},
	{"initiator: lun seen twice", withTarget("initiator \"iqn.1998-01.com.vmware:esx01\" {\nluns = ‸{ \"0\" = \"0\", \"1\" = \"0\" }\n}"), "LUN 0 as LUN 0 and as LUN 1"},
	{"initiator: sees nothing", withTarget("initiator \"iqn.1998-01.com.vmware:esx01\" {\nluns = ‸{}\n}"), "would see no LUN"},
	{"initiator: luns a list", withTarget("initiator \"iqn.1998-01.com.vmware:esx01\" {\nluns = ‸[\"0\"]\n}"), "is a map of strings"},
	{"initiator: read_only unknown", withTarget("initiator \"iqn.1998-01.com.vmware:esx01\" {\nread_only = ‸[\"7\"]\n}"), "does not see a LUN 7"},
	{"initiator: read_only a string", withTarget("initiator \"iqn.1998-01.com.vmware:esx01\" {\nread_only = ‸\"0\"\n}"), "is a list of strings"},
	{"initiator: not in auth", lan + mem + "auth \"a\" {\ntype = \"none\"\ninitiator_name = [\"iqn.2026-11.com.example:i\"]\n}\n" + strings.Replace(scratch, "insecure = true", "auth = \"a\"\ninitiator ‸\"iqn.2026-11.com.example:j\" {}", 1), "not in initiator_name of auth"},
}

func TestWrong(t *testing.T) {
	if len(wrong) < 80 {
		t.Fatalf("%d cases; there are to be 80 at least", len(wrong))
	}
	for _, tt := range wrong {
		t.Run(tt.name, func(t *testing.T) {
			before, after, ok := strings.Cut(tt.src, "‸")
			if !ok {
				t.Fatal("the source has no ‸")
			}
			line := 1 + strings.Count(before, "\n")
			col := 1 + len(before) - (strings.LastIndex(before, "\n") + 1)
			c, diags := config.Parse("iserd.hcl", []byte(before+after), config.WithHost(testHost()))
			if c != nil {
				t.Error("Parse returned a configuration")
			}
			var errs []config.Diagnostic
			for _, d := range diags.Entries() {
				if d.Severity == "error" {
					errs = append(errs, d)
				}
			}
			if len(errs) != 1 {
				t.Fatalf("%d errors, want 1:\n%v\n%s", len(errs), diags.Error(), before+after)
			}
			if e := errs[0]; e.File != "iserd.hcl" || e.Line != line || e.Col != col {
				t.Errorf("reported at %s:%d:%d, want iserd.hcl:%d:%d", e.File, e.Line, e.Col, line, col)
			}
			if got := errs[0].Summary + ": " + errs[0].Detail; !strings.Contains(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}
