# Reads the "#syscalls" and "#ioctls" comments of the sources it is given and writes them as calls of C macros,
# one a line, for scripts/syscalls.c.  The grammar is in docs/sandbox.md.  Status 1 when a line cannot be read.
#   awk -f scripts/syscalls.awk FILE...

function fail(why)
{
	printf "%s:%d: %s\n", FILENAME, FNR, why >"/dev/stderr"
	failed = 1
}

function one(kind, word, file,   at, part, c)
{
	if (what == "ioctls") {
		if (word !~ /^[A-Z][A-Z0-9_]*$/)
			return fail("\"" word "\" is no ioctl's name")
		return "IOCTL(" kind ", " word ", \"" file "\")"
	}
	if (word ~ /^[a-z][a-z0-9_]*$/)
		return "CALL(" kind ", " word ", \"" file "\")"
	if (word ~ /^[a-z][a-z0-9_]*=E[A-Z0-9]+$/) {
		split(word, part, "=")
		return "CALL_ERRNO(" kind ", " part[1] ", " part[2] ", \"" file "\")"
	}
	if (word ~ /^[a-z][a-z0-9_]*:[0-5](==|&|!)[A-Z][A-Z0-9_]*$/) {
		at = index(word, ":")
		part[1] = substr(word, 1, at - 1)
		part[2] = substr(word, at + 1, 1)
		c = substr(word, at + 2)
		part[3] = c ~ /^==/ ? "EQUAL" : c ~ /^&/ ? "SET" : "CLEAR"
		sub(/^(==|&|!)/, "", c)
		return "CALL_IF(" kind ", " part[1] ", " part[2] ", " part[3] ", " c ", \"" file "\")"
	}
	return fail("\"" word "\" is no call: NAME, NAME:ARG==CONSTANT, NAME:ARG&MASK, NAME:ARG!MASK or NAME=ERRNO")
}

BEGIN {
	nknown = split("all main vcpu data disk console slirp connect setup server", list, " ")
	for (i = 1; i <= nknown; i++)
		known[list[i]] = 1
}

# A comment's list goes on until its end, an empty line of it, or "--".
function take(word,   k, n, kinds)
{
	if (word ~ /^#(syscalls|ioctls)/) {
		what = ""
		if (word !~ /^#(syscalls|ioctls)\[[a-z,]+\]:$/)
			return fail("\"" word "\": expected #syscalls[KIND,...]: or #ioctls[KIND,...]:")
		what = word ~ /^#syscalls/ ? "syscalls" : "ioctls"
		sub(/^#[a-z]*\[/, "", word)
		sub(/\]:$/, "", word)
		heads = word
		n = split(word, kinds, ",")
		for (k = 1; k <= n; k++)
			if (!(kinds[k] in known))
				fail("no kind of thread is called " kinds[k])
		return
	}
	if (what == "")
		return
	n = split(heads, kinds, ",")
	for (k = 1; k <= n; k++)
		out[one(kinds[k], word, FILENAME)] = 1
}

FNR == 1 {
	what = ""
}

what == "" && !/#(syscalls|ioctls)(\[|:)/ {
	next
}

{
	line = $0
	if (what == "")
		sub(/^.*\/\*[ \t]*/, "", line)
	else
		sub(/^[ \t]*(\/?\*)?[ \t]*/, "", line)
	ends = line ~ /\*\//
	sub(/\*\/.*$/, "", line)
	n = split(line, words, /[ \t]+/)
	if (!n || line ~ /^[ \t]*$/)
		what = ""
	for (i = 1; i <= n; i++) {
		if (words[i] == "--")
			what = ""
		else if (words[i] != "" && (what != "" || words[i] ~ /^#(syscalls|ioctls)/))
			take(words[i])
	}
	if (ends)
		what = ""
}

END {
	sort = "LC_ALL=C sort"
	for (line in out)
		if (line != "")
			print line | sort
	close(sort)
	exit failed
}
