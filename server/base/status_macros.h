// RETURN_IF_ERROR and ASSIGN_OR_RETURN: pass an error on to the caller in one line.
#pragma once

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define SLUICE_CONCAT_INNER(a, b) a##b
#define SLUICE_CONCAT(a, b) SLUICE_CONCAT_INNER(a, b)

// Returns from the function if `expr`, an absl::Status, is not OK.
#define RETURN_IF_ERROR(expr)                      \
  do {                                             \
    absl::Status sluice_status = (expr);           \
    if (!sluice_status.ok()) return sluice_status; \
  } while (false)

// Evaluates `expr`, an absl::StatusOr; assigns its value to `lhs`, or returns its status from the
// function.
#define ASSIGN_OR_RETURN(lhs, expr) \
  SLUICE_ASSIGN_OR_RETURN(SLUICE_CONCAT(sluice_statusor, __LINE__), lhs, expr)
#define SLUICE_ASSIGN_OR_RETURN(statusor, lhs, expr)       \
  auto statusor = (expr);                                  \
  if (!statusor.ok()) return std::move(statusor).status(); \
  lhs = *std::move(statusor)
