#include "files.h"

#include "expected.h"

#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#ifdef __GLIBC__
#include <gnu/libc-version.h>
#endif

void folder_of(const char *program, char *folder, size_t bytes) {
  const char *slash = strrchr(program, '/');
  snprintf(folder, bytes, "%.*s", slash ? (int)(slash - program) : 1, slash ? program : ".");
}

static FILE *open_in(const char *folder, const char *name) {
  char path[PATH_BYTES];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return fopen(path, "rb");
}

/* --- SHA-256 ------------------------------------------------------------------------------ */

static uint32_t turned(uint32_t x, int bits) { return x >> bits | x << (32 - bits); }

/* The first 32 bits of the fractional parts of the cube roots of the first 64 primes. */
static const uint32_t rounds[64] = {
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static void add_block(uint32_t state[8], const unsigned char *block) {
  uint32_t w[64], s[8];
  for (int i = 0; i < 16; ++i)
    w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 |
           (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
  for (int i = 16; i < 64; ++i) {
    uint32_t a = w[i - 15], b = w[i - 2];
    w[i] = w[i - 16] + (turned(a, 7) ^ turned(a, 18) ^ a >> 3) + w[i - 7] +
           (turned(b, 17) ^ turned(b, 19) ^ b >> 10);
  }
  memcpy(s, state, sizeof s);
  for (int i = 0; i < 64; ++i) {
    uint32_t one = s[7] + (turned(s[4], 6) ^ turned(s[4], 11) ^ turned(s[4], 25)) +
                   ((s[4] & s[5]) ^ (~s[4] & s[6])) + rounds[i] + w[i];
    uint32_t two = (turned(s[0], 2) ^ turned(s[0], 13) ^ turned(s[0], 22)) +
                   ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    memmove(s + 1, s, 7 * sizeof *s);
    s[4] += one;
    s[0] = one + two;
  }
  for (int i = 0; i < 8; ++i) state[i] += s[i];
}

int sha256_of(const char *folder, const char *name, char found[65]) {
  FILE *file = open_in(folder, name);
  if (!file) return 1;
  uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                       0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  unsigned char block[128];
  uint64_t total = 0;
  size_t got;
  while ((got = fread(block, 1, 64, file)) == 64) {
    add_block(state, block);
    total += 64;
  }
  fclose(file);
  total += got;
  /* What is left, a one, zeros, and the length in bits: one block or two. */
  size_t length = got < 56 ? 64 : 128;
  memset(block + got, 0, sizeof block - got);
  block[got] = 0x80;
  for (int i = 0; i < 8; ++i) block[length - 1 - (size_t)i] = (unsigned char)(total * 8 >> 8 * i);
  for (size_t at = 0; at < length; at += 64) add_block(state, block + at);
  for (int i = 0; i < 8; ++i) snprintf(found + 8 * i, 9, "%08x", state[i]);
  return 0;
}

/* --- ELF ---------------------------------------------------------------------------------- */

int elf_machine(const char *folder, const char *name, char *found, size_t bytes) {
  static const struct {
    int number;
    const char *name;
  } known[] = {{EM_X86_64, "x86_64"}, {EM_AARCH64, "aarch64"}, {EM_ARM, "armv7"},
               {243 /* EM_RISCV */, "riscv64"}};
  unsigned char head[20];
  snprintf(found, bytes, "no ELF file");
  FILE *file = open_in(folder, name);
  if (!file) return 1;
  size_t got = fread(head, 1, sizeof head, file);
  fclose(file);
  if (got < sizeof head || memcmp(head, ELFMAG, SELFMAG) != 0) return 1;
  int number = head[18] | head[19] << 8; /* e_machine, of a little-endian file */
  snprintf(found, bytes, "machine %d", number);
  for (size_t i = 0; i < sizeof known / sizeof *known; ++i)
    if (known[i].number == number) snprintf(found, bytes, "%s", known[i].name);
  return 0;
}

/* --- Archives of arrays ------------------------------------------------------------------- */

static uint32_t number(const unsigned char *bytes, int count) {
  uint32_t value = 0;
  while (count--) value = value << 8 | bytes[count];
  return value;
}

static unsigned char *contents(const char *folder, const char *name, size_t *bytes) {
  FILE *file = open_in(folder, name);
  if (!file) return NULL;
  unsigned char *data = NULL;
  if (fseek(file, 0, SEEK_END) == 0 && (*bytes = (size_t)ftell(file)) >= 22) {
    rewind(file);
    data = malloc(*bytes);
    if (data && fread(data, 1, *bytes, file) != *bytes) *bytes = 0;
  }
  fclose(file);
  return data;
}

/* A copy of the array whose .npy file (numpy.lib.format) starts at `npy`, on a 64-byte boundary. */
static void *array_of(const unsigned char *npy, size_t size, size_t *bytes) {
  if (size < 12 || memcmp(npy, "\x93NUMPY", 6) != 0) return NULL;
  size_t start = npy[6] == 1 ? 10 + number(npy + 8, 2) : 12 + number(npy + 8, 4);
  void *array = NULL;
  if (start > size || posix_memalign(&array, 64, size - start + 64)) return NULL;
  *bytes = size - start;
  memcpy(array, npy + start, *bytes);
  return array;
}

/* Members lie in the archive as they are: numpy.savez does not compress. The directory at its end
 * (PKWARE's APPNOTE, sections 4.3.12 and 4.3.16) says where. */
void *array_in(const char *folder, const char *archive, const char *member, size_t *bytes) {
  size_t size = 0, length = strlen(member);
  unsigned char *data = contents(folder, archive, &size);
  void *array = NULL;
  const unsigned char *end = data && size ? data + size - 22 : NULL;
  const unsigned char *row = end ? data + number(end + 16, 4) : NULL;
  for (uint32_t left = end ? number(end + 10, 2) : 0; left && row + 46 <= end; --left) {
    size_t name = number(row + 28, 2);
    const unsigned char *local = data + number(row + 42, 4);
    if (row + 46 + name > end || local + 30 > end) break;
    if (name == length + 4 && memcmp(row + 46, member, length) == 0) {
      const unsigned char *npy = local + 30 + number(local + 26, 2) + number(local + 28, 2);
      size_t stored = number(row + 20, 4);
      if (npy <= end && stored <= (size_t)(end - npy)) array = array_of(npy, stored, bytes);
      break;
    }
    row += 46 + name + number(row + 30, 2) + number(row + 32, 2);
  }
  free(data);
  return array;
}

/* --- This machine ------------------------------------------------------------------------- */

const char *cpu_lacks(void) {
#if defined(__x86_64__)
  return expected_x86();
#else
  for (size_t i = 0; i < sizeof expected_features / sizeof *expected_features; ++i) {
    const struct expected_feature *row = &expected_features[i];
    if (row->name && !(getauxval(row->word ? AT_HWCAP2 : AT_HWCAP) >> row->bit & 1))
      return row->name;
  }
  return NULL;
#endif
}

const char *glibc_here(void) {
#ifdef __GLIBC__
  return gnu_get_libc_version();
#else
  return "none";
#endif
}

int glibc_is_older(void) {
#ifdef __GLIBC__
  int major = 0, minor = 0, wanted_major = 0, wanted_minor = 0;
  sscanf(glibc_here(), "%d.%d", &major, &minor);
  if (sscanf(EXPECTED_GLIBC, "%d.%d", &wanted_major, &wanted_minor) != 2) return 0;
  return major < wanted_major || (major == wanted_major && minor < wanted_minor);
#else
  return 0;
#endif
}
