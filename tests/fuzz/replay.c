/* Runs a fuzz target over files, without a fuzzer: the corpus in every test run, or one input that broke
 * something. replay FILE|DIRECTORY... */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned count;

static int run_file(const char *path)
{
	FILE *f = fopen(path, "rb");
	uint8_t *data;
	struct stat st;
	size_t len;

	if (!f || fstat(fileno(f), &st)) {
		perror(path);
		return 1;
	}
	/* The exact size on the heap, so that a sanitizer sees one byte too many. */
	data = malloc((size_t)st.st_size + !st.st_size);
	len = data ? fread(data, 1, (size_t)st.st_size, f) : 0;
	fclose(f);
	if (!data || len != (size_t)st.st_size) {
		fprintf(stderr, "%s: cannot be read whole\n", path);
		free(data);
		return 1;
	}
	LLVMFuzzerTestOneInput(data, len);
	free(data);
	count++;
	return 0;
}

static int run_path(const char *path)
{
	char file[4096];
	struct dirent *entry;
	DIR *dir = opendir(path);
	int rc = 0;

	if (!dir)
		return run_file(path);
	while (!rc && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
		rc = run_file(file);
	}
	closedir(dir);
	return rc;
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (run_path(argv[i]))
			return 1;
	printf("%u inputs\n", count);
	return count ? 0 : 1; /* an empty corpus proves nothing */
}
