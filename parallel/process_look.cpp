// SPDX-License-Identifier: Apache-2.0
#include "parallel/process_look.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <initializer_list>

namespace chunkstate {

ProcessLook look_at_process(int pid) {
  char path[32] = "/proc/";
  int length = 6;
  char digits[12];
  int count = 0;
  for (int rest = pid; rest > 0 || count == 0; rest /= 10) {
    digits[count++] = static_cast<char>('0' + rest % 10);
  }
  while (count > 0) path[length++] = digits[--count];
  for (const char c : {'/', 's', 't', 'a', 't', '\0'}) path[length++] = c;

  char text[512];
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  const ssize_t size = read(file, text, sizeof(text));
  close(file);
  // "pid (name) state ppid ..."; the name may hold anything, also parentheses.
  ssize_t i = size;
  while (i > 0 && text[i - 1] != ')') --i;
  if (i <= 0 || i + 1 >= size) return {};
  ProcessLook look;
  look.state = text[i + 1];
  constexpr int fields_to_start = 20;  // state is field 3, the start time field 22
  int fields = 0;
  for (; i < size && fields < fields_to_start; ++i) fields += text[i] == ' ' ? 1 : 0;
  std::int64_t start = 0;
  for (; i < size && text[i] >= '0' && text[i] <= '9'; ++i) start = 10 * start + (text[i] - '0');
  look.start = start;
  return look;
}

}  // namespace chunkstate
