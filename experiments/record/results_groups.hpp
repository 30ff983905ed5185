// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "experiments/record/hdf5.hpp"
#include "experiments/record/results_file.hpp"

namespace chunkstate {

/// One function per group of the results file. `requests` in the file's order.
using SortedRequests = std::vector<const RequestRecord*>;

void write_config(const h5::Group& root, const ResultsContent& content);
void write_provenance(const h5::Group& root, const ResultsContent& content);
void write_model(const h5::Group& root, const ResultsContent& content);
void write_sweep(const h5::Group& root, const ResultsContent& content,
                 const SortedRequests& requests);
void write_prompts(const h5::Group& root, const ResultsContent& content);
void write_requests(const h5::Group& root, const ResultsContent& content,
                    const SortedRequests& requests);
void write_outputs(const h5::Group& root, const SortedRequests& requests);
void write_tokens(const h5::Group& root, const SortedRequests& requests);
/// Nothing if the experiment evaluates nothing.
void write_accuracy(const h5::Group& root, const ResultsContent& content,
                    const SortedRequests& requests);
/// The inverse, from that group: sets the evaluations of `results.requests`.
void read_accuracy(const h5::Group& group, StoredResults& results);
/// Point x metric x stat, in row-major order.
std::vector<double> summary_values(const ResultsContent& content, const SortedRequests& requests);
void write_summary(const h5::Group& root, const ResultsContent& content,
                   std::span<const double> values);

void write_shards(const h5::Group& root, const ResultsContent& content);

/// A column from texts that come from outside (a sweep axis, a further field of the prompt file):
/// integers if all are, else numbers (missing: NaN), else texts. `values` are JSON or plain text;
/// an empty one is missing.
void write_guessed(const h5::Group& group, const h5::Label& label,
                   const std::vector<std::string>& values, const std::string& dimension);

/// Such texts that write_guessed() makes the same column of.
std::vector<std::string> read_guessed(const h5::Group& group, const std::string& name);

/// A name that HDF5 and netCDF both take: letters, digits, "_.+-@", first a letter, digit or "_".
std::string column_name(const std::string& name);

}  // namespace chunkstate
