/* Which language the messages are in. */
#ifndef CLI_LANGUAGE_H
#define CLI_LANGUAGE_H

/* Reads LANGUAGE, LC_ALL, LC_MESSAGES, LANG; finds the translations beside the program or where they were installed. */
void language_init(void);

#endif
