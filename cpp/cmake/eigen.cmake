# Eigen's headers: the system's where it has them, else those of the wheel `cmeel-eigen` (a build requirement),
# which lie under <site-packages>/cmeel.prefix of whatever environment runs this build.
find_package(Eigen3 3.4 CONFIG QUIET)
if(NOT Eigen3_FOUND)
  set(cmeel_prefixes ${CMAKE_PREFIX_PATH})
  list(TRANSFORM cmeel_prefixes APPEND "/cmeel.prefix")
  find_package(Eigen3 3.4 CONFIG REQUIRED PATHS ${cmeel_prefixes})
endif()
