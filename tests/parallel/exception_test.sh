#!/bin/sh
# A rank that leaves by an exception ends the job at once, with exit code 1.
# Usage: exception_test.sh MPIEXEC PARALLEL_MPI_TEST
said=$(timeout 60 "$1" -n 3 "$2" throw 2>&1)
code=$?
echo "$said"
[ $code -eq 1 ] && exit 0
# MPICH's launcher reports the first rank that it sees ended, at times one that it has killed itself.
[ $code -eq 9 ] && echo "$said" | grep -q 'Abort(1) on node 2' && exit 0
echo "exit code $code, expected 1" >&2
exit 1
