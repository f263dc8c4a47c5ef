// What most of the sources read, for half a second each: it is put before all of them, and compiled once.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <omp.h>
#include "detr_kernel.h"
