program hello
  implicit none
  character(len=32) :: argument
  real(8) :: a(1000)
  call random_number(a)
  call get_command_argument(1, argument)
  if (sum(a) > 0.0d0) print '(2a)', 'fortran ', trim(argument)
end program
