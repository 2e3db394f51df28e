#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/config.h"
#include "vmm/config_options.h"
#include "vmm/doctor_checks.h"

/* Theory of operation: the generated half answers questions about options from the parser's
 * table; the fixed half finds out what is asked.  It reads the line itself, because bash splits
 * "--mem=1G" at the "=" and expects answers without what stands before it. */
static const char fixed_half[] =
	"\n"
	"_ringlet_keys()\n"
	"{\n"
	"	local option=$1 list=$2 head= last=${2##*,} key first=\n"
	"	[[ $list == *,* ]] && head=${list%,*},\n"
	"	[[ -z $head ]] && first=$(_ringlet_first \"$option\")\n"
	"	option=$(_ringlet_table \"$option\" \"$list\")\n"
	"	if [[ $first == file* && $last != *=* ]]; then\n"
	"		mapfile -t COMPREPLY < <(compgen -W \"${first#file}\" -- \"$last\"\n"
	"			compgen -f -- \"$last\")\n"
	"		compopt -o filenames 2>/dev/null\n"
	"	elif [[ $last == *=* ]]; then\n"
	"		key=${last%%=*}\n"
	"		mapfile -t COMPREPLY < <(_ringlet_key_values \"$option\" \"$key\" \"${last#*=}\")\n"
	"		COMPREPLY=(\"${COMPREPLY[@]/#/$head$key=}\")\n"
	"	else\n"
	"		mapfile -t COMPREPLY < <(compgen -W \"$first $(_ringlet_key_names \"$option\")\" -- "
	"\"$last\")\n"
	"		COMPREPLY=(\"${COMPREPLY[@]/#/$head}\")\n"
	"	fi\n"
	"	compopt -o nospace 2>/dev/null\n"
	"}\n"
	"\n"
	"_ringlet_value()\n"
	"{\n"
	"	local option=$1 value=$2 kind\n"
	"	kind=$(_ringlet_kind \"$option\")\n"
	"	case $kind in\n"
	"	file)\n"
	"		mapfile -t COMPREPLY < <(compgen -f -- \"$value\")\n"
	"		compopt -o filenames 2>/dev/null\n"
	"		;;\n"
	"	words:*)\n"
	"		mapfile -t COMPREPLY < <(compgen -W \"${kind#words:}\" -- \"$value\")\n"
	"		;;\n"
	"	keys)\n"
	"		_ringlet_keys \"$option\" \"$value\"\n"
	"		;;\n"
	"	esac\n"
	"}\n"
	"\n"
	"_ringlet()\n"
	"{\n"
	"	local line=${COMP_LINE:0:COMP_POINT} cur last= command= breaks= cut word i\n"
	"	local -a words\n"
	"	COMPREPLY=()\n"
	"	read -ra words <<<\"$line\"\n"
	"	[[ $line == *[[:space:]] ]] && words+=(\"\")\n"
	"	(( ${#words[@]} < 2 )) && return\n"
	"	cur=${words[-1]}\n"
	"	for (( i = 1; i < ${#words[@]} - 1; i++ )); do\n"
	"		word=${words[i]}\n"
	"		if [[ -n $last ]]; then\n"
	"			last=\n"
	"		elif [[ $word == -- ]]; then\n"
	"			return\n"
	"		elif _ringlet_wants_value \"$word\"; then\n"
	"			last=$word\n"
	"		elif [[ -z $command && $word != -* ]]; then\n"
	"			command=$word\n"
	"		fi\n"
	"	done\n"
	"	if [[ -n $last ]]; then\n"
	"		_ringlet_value \"$last\" \"$cur\"\n"
	"	elif [[ $cur == --*=* ]]; then\n"
	"		_ringlet_value \"${cur%%=*}\" \"${cur#*=}\"\n"
	"		COMPREPLY=(\"${COMPREPLY[@]/#/${cur%%=*}=}\")\n"
	"	elif [[ $cur == -* ]]; then\n"
	"		mapfile -t COMPREPLY < <(compgen -W \"$(_ringlet_options \"$command\")\" -- \"$cur\")\n"
	"	elif [[ $command == run ]]; then\n"
	"		mapfile -t COMPREPLY < <(compgen -f -- \"$cur\")\n"
	"		compopt -o filenames 2>/dev/null\n"
	"	else\n"
	"		mapfile -t COMPREPLY < <(compgen -W \"$(_ringlet_operands \"$command\")\" -- "
	"\"$cur\")\n"
	"	fi\n"
	"	(( ${#COMPREPLY[@]} )) || return\n"
	"	[[ $COMP_WORDBREAKS == *=* ]] && breaks+==\n"
	"	[[ $COMP_WORDBREAKS == *:* ]] && breaks+=:\n"
	"	if [[ -n $breaks && $cur == *[$breaks]* ]]; then\n"
	"		cut=${cur%\"${cur##*[$breaks]}\"}\n"
	"		COMPREPLY=(\"${COMPREPLY[@]#\"$cut\"}\")\n"
	"	fi\n"
	"}\n"
	"complete -F _ringlet ringlet\n";

/* What stands for --disk with a back end in the lists of keys. */
#define REMOTE_DISK "remote-disk"

/* "-k|--kernel|-p|--params": all the spellings, as a pattern of `case`. */
static void print_spellings(FILE *out, const struct option_def *def)
{
	fprintf(out, "--%s", def->name);
	if (def->letter)
		fprintf(out, "|-%c", def->letter);
	for (size_t i = 0; i < noption_aliases; i++) {
		const struct option_alias *alias = &option_aliases[i];

		if (!alias->stands_for || strcmp(alias->stands_for, def->name) != 0)
			continue;
		if (alias->dashes & ONE_DASH)
			fprintf(out, "|-%s", alias->name);
		if (alias->dashes & TWO_DASH)
			fprintf(out, "|--%s", alias->name);
	}
}

static void print_options(FILE *out, unsigned place)
{
	for (size_t i = 0; i < noption_defs; i++) {
		const struct option_def *def = &option_defs[i];

		if (!(def->places & place))
			continue;
		if (def->letter)
			fprintf(out, " -%c", def->letter);
		fprintf(out, " --%s", def->name);
	}
}

static void print_option_lists(FILE *out)
{
	fputs("_ringlet_options()\n{\n\tcase $1 in\n", out);
	for (size_t i = 0; i < ncommand_defs; i++) {
		fprintf(out, "\t%s) echo \"", command_defs[i].name);
		print_options(out, command_defs[i].place);
		fputs("\" ;;\n", out);
	}
	fputs("\t'') echo \"", out);
	print_options(out, IN_MAIN);
	fputs("\" ;;\n\tesac\n}\n\n", out);

	fputs("_ringlet_wants_value()\n{\n\tcase $1 in\n", out);
	for (size_t i = 0; i < noption_defs; i++) {
		if (option_defs[i].arg != ARG_REQUIRED)
			continue;
		fputc('\t', out);
		print_spellings(out, &option_defs[i]);
		fputs(") return 0 ;;\n", out);
	}
	fputs("\tesac\n\treturn 1\n}\n\n", out);
}

static void print_operands(FILE *out)
{
	fputs("_ringlet_operands()\n{\n\tcase $1 in\n\t'') echo \"", out);
	for (size_t i = 0; i < ncommand_defs; i++)
		fprintf(out, " %s", command_defs[i].name);
	fputs("\" ;;\n\thelp) echo \"", out);
	for (size_t i = 0; i < ncommand_defs; i++)
		fprintf(out, " %s", command_defs[i].name);
	fputs(" " HELP_DEVICES " " HELP_TESTS "\" ;;\n\tcompletion) echo bash ;;\n\tesac\n}\n\n", out);
}

static void print_kinds(FILE *out)
{
	fputs("_ringlet_kind()\n{\n\tcase $1 in\n", out);
	for (size_t i = 0; i < noption_defs; i++) {
		const struct option_def *def = &option_defs[i];

		if (def->value == VALUE_OTHER)
			continue;
		fputc('\t', out);
		print_spellings(out, def);
		switch (def->value) {
		case VALUE_FILE:
			fputs(") echo file ;;\n", out);
			break;
		case VALUE_WORDS:
			fprintf(out, ") echo \"words:%s\" ;;\n", def->words);
			break;
		case VALUE_KEYS:
			fputs(") echo keys ;;\n", out);
			break;
		case VALUE_CHECK:
			fputs(") echo \"words:", out);
			for (size_t j = 0; j < ndoctor_checks; j++)
				fprintf(out, " %s", doctor_checks[j].name);
			fputs("\" ;;\n", out);
			break;
		case VALUE_OTHER:
			break;
		}
	}
	fputs("\tesac\n}\n\n", out);
}

/* What may stand first without its key: words, or a file's name. */
static void print_firsts(FILE *out)
{
	fputs("_ringlet_first()\n{\n\tcase $1 in\n", out);
	for (size_t i = 0; i < noption_defs; i++) {
		const struct key_def *first = option_defs[i].keys;

		if (!first || (!first->file && !first->words))
			continue;
		fputc('\t', out);
		print_spellings(out, &option_defs[i]);
		fprintf(out, ") echo \"%s%s%s\" ;;\n", first->file ? "file" : "",
			first->file && first->words ? " " : "", first->words ? first->words : "");
	}
	fputs("\tesac\n}\n\n", out);
}

/* The name of the table of keys that goes with an option and its first value: disks have two. */
static void print_tables(FILE *out)
{
	fputs("_ringlet_table()\n{\n\tcase $1 in\n", out);
	for (size_t i = 0; i < noption_defs; i++) {
		if (option_defs[i].keys != config_disk_keys)
			continue;
		fputc('\t', out);
		print_spellings(out, &option_defs[i]);
		fputs(")\n\t\tcase $2 in\n"
		      "\t\tvhost-user,*|vdpa,*|vhost-vdpa,*) echo " REMOTE_DISK "; return ;;\n"
		      "\t\tesac ;;\n",
		      out);
	}
	/* One of the names is -n, which echo would take for its own. */
	fputs("\tesac\n\tprintf '%s\\n' \"$1\"\n}\n\n", out);
}

static void print_names(FILE *out, const struct key_def *keys)
{
	fputs(") echo \"", out);
	for (const struct key_def *key = keys; key; key = key_next(key))
		if (key_is_public(key))
			fprintf(out, " %s%s", key->name, key->bare ? "" : "=");
	fputs("\" ;;\n", out);
}

static void print_key_names(FILE *out)
{
	fputs("_ringlet_key_names()\n{\n\tcase $1 in\n", out);
	for (size_t i = 0; i < noption_defs; i++) {
		const struct option_def *def = &option_defs[i];

		if (!def->keys)
			continue;
		fputc('\t', out);
		print_spellings(out, def);
		print_names(out, def->keys);
	}
	fputs("\t" REMOTE_DISK, out);
	print_names(out, config_disk_remote_keys);
	fputs("\tesac\n}\n\n", out);
}

static void print_values(FILE *out, const struct key_def *keys)
{
	fputs(")\n\t\tcase $2 in\n", out);
	for (const struct key_def *key = keys; key; key = key_next(key)) {
		if (key->directory || key->file)
			fprintf(out, "\t\t%s) compgen -%c -- \"$3\" ;;\n", key->name, key->file ? 'f' : 'd');
		else if (key->words)
			fprintf(out, "\t\t%s) compgen -W \"%s\" -- \"$3\" ;;\n", key->name, key->words);
	}
	fputs("\t\tesac ;;\n", out);
}

static void print_key_values(FILE *out)
{
	fputs("_ringlet_key_values()\n{\n\tcase $1 in\n", out);
	for (size_t i = 0; i < noption_defs; i++) {
		const struct option_def *def = &option_defs[i];

		if (!def->keys)
			continue;
		fputc('\t', out);
		print_spellings(out, def);
		print_values(out, def->keys);
	}
	fputs("\t" REMOTE_DISK, out);
	print_values(out, config_disk_remote_keys);
	fputs("\tesac\n}\n", out);
}

int config_completion(FILE *out)
{
	fputs("# bash completion for ringlet; printed by \"ringlet completion bash\"\n", out);
	print_option_lists(out);
	print_operands(out);
	print_kinds(out);
	print_firsts(out);
	print_tables(out);
	print_key_names(out);
	print_key_values(out);
	fputs(fixed_half, out);
	return fflush(out) || ferror(out) ? -EIO : 0;
}
