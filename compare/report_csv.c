/* A line a workload, path and round, as RFC 4180 wants it; what is not known is empty. */
#include <math.h>
#include <stdio.h>

#include "compare/report.h"
#include "compare/report_file.h"
#include "compare/report_metric.h"
#include "compare/report_text.h"

static void quoted(FILE *out, const char *text)
{
	fputc('"', out);
	for (; *text; text++) {
		if (*text == '"')
			fputc('"', out);
		fputc(*text, out);
	}
	fputc('"', out);
}

static void number(FILE *out, double v)
{
	fputc(',', out);
	if (isfinite(v))
		fprintf(out, "%.10g", v);
}

static void header(FILE *out)
{
	fputs("workload,path,round,ok,unit", out);
	for (unsigned m = 0; m < METRICS; m++)
		fprintf(out, ",%s", report_metrics[m].key);
	for (unsigned i = 0; i < LATENCY_POINTS; i++)
		fprintf(out, ",latency_us_%g", latency_percent[i]);
	fputs("\r\n", out);
}

static void line(FILE *out, const struct result *r, unsigned w, unsigned p, unsigned round)
{
	const struct workload *workload = &r->plan->workload[w];
	const struct sample *all = r->cell[w][p].sample;
	const struct sample *s = all ? &all[round] : NULL;
	char clean[128];

	quoted(out, report_clean(workload->name, clean, sizeof(clean)));
	fputc(',', out);
	quoted(out, report_path(r, p, clean));
	fprintf(out, ",%u,%d,", round + 1, s && s->ok);
	quoted(out, report_clean(workload->unit, clean, sizeof(clean)));
	/* What a failed round may have left behind is no measurement. */
	for (unsigned m = 0; m < METRICS; m++)
		number(out, s && s->ok ? s->value[m] : NAN);
	for (unsigned i = 0; i < LATENCY_POINTS; i++)
		number(out, s && s->ok ? s->latency_us[i] : NAN);
	fputs("\r\n", out);
}

int report_csv(const struct result *r, const char *path, struct err *e)
{
	struct report_file f;
	int ret = report_file_open(&f, path, e);

	if (ret)
		return ret;
	header(f.out);
	for (unsigned w = 0; w < r->plan->nworkloads; w++)
		for (unsigned p = 0; p < r->plan->npaths; p++)
			for (unsigned round = 0; round < r->rounds; round++)
				line(f.out, r, w, p, round);
	return report_file_close(&f, e);
}
