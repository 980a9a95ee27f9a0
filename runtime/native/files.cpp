#include "files.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "refusal.hpp"
#include "sha256.hpp"

namespace lorarar {

namespace {

// A descriptor that is closed, and the unfinished file of this name that is removed, on every way
// out.
struct Draft {
  std::string path;
  int file = -1;

  ~Draft() {
    if (file >= 0) close(file);
    if (!path.empty()) unlink(path.c_str());
  }
};

std::string real_path(const std::string& path) {
  char* found = realpath(path.c_str(), nullptr);
  const std::string real = found != nullptr ? found : path;
  std::free(found);
  return real;
}

[[noreturn]] void refuse_output(const std::string& path, const std::string& reason) {
  throw Refusal(path + ": cannot be written (" + reason + "); choose another place");
}

void write_all(int file, const std::byte* bytes, size_t size, const std::string& path) {
  while (size > 0) {
    const ssize_t written = write(file, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) refuse_output(path, std::strerror(errno));
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

}  // namespace

Mapped map_file(const std::string& path, const std::string& kind) {
  Draft opened{"", open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat about{};
  if (opened.file < 0 || fstat(opened.file, &about) != 0) {
    const std::string reason = errno == ENOENT
                                   ? "does not exist"
                                   : std::string("cannot be read (") + strerror(errno) + ")";
    throw Refusal(path + ": " + reason + "; name a " + kind);
  }
  if (!S_ISREG(about.st_mode)) {
    const char* what = S_ISDIR(about.st_mode) ? "is a directory" : "is no regular file";
    throw Refusal(path + ": " + what + "; name a " + kind);
  }
  const auto size = static_cast<size_t>(about.st_size);
  if (size == 0) return {};
  void* memory = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, opened.file, 0);
  if (memory == MAP_FAILED) {
    throw Refusal(path + ": cannot be mapped (" + strerror(errno) + "); name another " + kind);
  }
  const auto unmap = [size](const std::byte* start) {
    munmap(const_cast<std::byte*>(start), size);
  };
  return {{static_cast<const std::byte*>(memory), unmap}, size};
}

void refuse_existing(const std::string& path, bool force) {
  struct stat about{};
  if (!force && stat(path.c_str(), &about) == 0) {
    throw Refusal(path + ": exists already; pass --force to replace it");
  }
}

std::string write_atomically(const std::string& path,
                             const std::function<void(const Put&)>& write_to) {
  const std::string target = real_path(path);
  struct stat about{};
  const bool exists = stat(target.c_str(), &about) == 0;
  if (exists && !S_ISREG(about.st_mode)) refuse_output(path, "there is no regular file there");
  const size_t slash = target.rfind('/') + 1;  // 0 without one
  std::string part = target.substr(0, slash) + "." + target.substr(slash) + ".XXXXXX";
  Draft draft{"", mkstemp(part.data())};
  if (draft.file < 0) refuse_output(path, std::strerror(errno));
  draft.path = part;

  Sha256 digest;
  write_to([&](const void* bytes, size_t size) {
    digest.add(bytes, size);
    write_all(draft.file, static_cast<const std::byte*>(bytes), size, path);
  });
  const mode_t mask = umask(0);
  umask(mask);
  if (fchmod(draft.file, exists ? about.st_mode & 0777 : 0666 & ~mask) != 0 ||
      fsync(draft.file) != 0 || std::rename(part.c_str(), target.c_str()) != 0) {
    refuse_output(path, std::strerror(errno));
  }
  draft.path.clear();
  return digest.hex();
}

}  // namespace lorarar
