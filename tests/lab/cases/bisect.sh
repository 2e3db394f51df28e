#!/bin/bash
# only: test-all
# The recipe of docs/ci.md for git bisect, word by word, on a tree whose "builds" are kernels that are there.
# timeout: 600
. "$(dirname "$0")/../lib.sh"
. "$(dirname "$0")/../root-lib.bash"
use_virtiofsd c
for name in small crash; do [ -e "build/guest/$name/bzImage" ] || fail "build/guest/$name is missing; run: guest-images/build-kernel.sh small crash"; done
guests=$PWD/build/guest
recipe=$(sed -n "/^cat >..\/boots <<'END'/,/^chmod/p" docs/ci.md)
[ -n "$recipe" ] || fail "docs/ci.md has no recipe"
mkdir "$tmp/bin" "$tmp/linux"
ln -s "$(realpath "$ringlet")" "$tmp/bin/ringlet"
PATH=$tmp/bin:$PATH
cd "$tmp/linux" || fail "no directory"

git init -q . && git config user.name nobody && git config user.email nobody@localhost
printf 'olddefconfig:\nbzImage:\n\tmkdir -p arch/x86/boot include/config\n\tcp %s/$(KERNEL)/bzImage arch/x86/boot/\n\tcp %s/$(KERNEL)/version include/config/kernel.release\n\tcp %s/$(KERNEL)/config .config\ninclude kernel.mk\n' \
	"$guests" "$guests" "$guests" >Makefile
printf '#!/bin/sh\n! grep -q lkdtm /proc/kallsyms\n' >reproducer
chmod +x reproducer
printf 'arch\ninclude\n.config\n' >.gitignore
git add .gitignore Makefile reproducer
for kernel in small small small nothing crash crash crash; do # "nothing" cannot be built
	n=$((${n:-0} + 1))
	printf "# %s\nKERNEL = %s\n" "$n" "$kernel" >kernel.mk
	git add -A && git commit -qm "change $n"
done

eval "$recipe"
git bisect start HEAD HEAD~6 >"$tmp/bisect" 2>&1
git bisect run ../boots >>"$tmp/bisect" 2>&1
status=$?
show "$tmp/bisect"
# Which of the two it was cannot be told, as one of them cannot be built.
[ "$status" -ne 0 ] || grep -q 'change [45]' "$tmp/bisect" || fail "it found something else"
grep -qE 'first bad commit could be any of|is the first bad commit' "$tmp/bisect" || fail "it found nothing"
git log --format=%s "$(git rev-parse --verify bisect/bad 2>/dev/null || echo HEAD)" -n 1 | grep -qx 'change 5' || fail "the last known bad is not change 5"
git log --format=%s "$(git for-each-ref --format='%(refname)' 'refs/bisect/good-*' | xargs git log -n 1 --format=%H)" -n 1 | grep -qx 'change 3' || fail "the last known good is not change 3"
