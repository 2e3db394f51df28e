#ifndef COMPARE_PROCESS_SIGNALS_H
#define COMPARE_PROCESS_SIGNALS_H

/* Readable when a signal has come that nobody has seen yet; -1 before process_catch_signals(). */
int process_signal_fd(void);
#endif
