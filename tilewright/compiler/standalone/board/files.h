/* What `run` reads: hashes, the machine of a library, arrays in numpy's archives; and what this
 * machine is. */
#ifndef FILES_H
#define FILES_H

#include <stddef.h>

enum { PATH_BYTES = 4096 };

/* The folder of the program called `program`. */
void folder_of(const char *program, char *folder, size_t bytes);

/* SHA-256 of a file as 64 characters (FIPS 180-4, section 6.2); 1 when it cannot be read. */
int sha256_of(const char *folder, const char *name, char found[65]);

/* The machine that an ELF file is for, as readelf -h calls it; 1 when it is no ELF file. */
int elf_machine(const char *folder, const char *name, char *found, size_t bytes);

/* Memory with the array `member` of a .npz archive, and its bytes; NULL when it is not there. */
void *array_in(const char *folder, const char *archive, const char *member, size_t *bytes);

/* The first feature that the model needs and this CPU lacks; NULL: none. */
const char *cpu_lacks(void);

/* The version of glibc here, "none" with another C library; and whether the model needs a later. */
const char *glibc_here(void);
int glibc_is_older(void);

#endif
