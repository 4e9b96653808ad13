@echo off
rem Starts BlockSkip Studio: double-click this file. The first time, and when an update wants other
rem packages, it makes a Python environment in .venv beside this file, and fetches a Python where the
rem computer has none; nothing else on the computer is changed.
rem
rem   launch.bat               opens the studio
rem   launch.bat train ...     any other word is a command of the program: train, plan, runs, doctor, ...
rem   launch.bat test ...      checks the program itself; further words go to pytest
rem   launch.bat rollback      goes back to the environment that the last update replaced
rem
rem BLOCKSKIP_PYTHON=C:\...\python.exe     which Python makes the environment
rem BLOCKSKIP_TORCH=auto, cpu, cu126, ...  which build of torch goes into it
rem BLOCKSKIP_NO_PAUSE=1                   do not wait for a key when something failed
rem
rem Written for cmd's traps: nothing is activated, every path is quoted, no path stands in a block,
rem and an exit code is compared with 0 because a crash gives a negative one.

setlocal EnableExtensions DisableDelayedExpansion
title BlockSkip Studio
set "HERE=%~dp0"
set "ENV=%HERE%.venv"
set "NEW=%HERE%.venv-new"
set "NEXT=%HERE%.venv-next"
set "MOVED=%HERE%.venv-moved"
set "OLD=%HERE%.venv-previous"
set "UV=%HERE%.venv-uv"
set "UV_VERSION=0.13.8"

rem Other people's settings lead packages to wrong places, or bring wrong ones in.
for %%v in (PYTHONHOME PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS PYTHONOPTIMIZE PYTHONINSPECT PIP_TARGET PIP_PREFIX) do set "%%v="
set "PYTHONNOUSERSITE=1"
set "PYTHONUTF8=1"
set "PIP_USER=0"
set "PIP_NO_INPUT=1"
set "PIP_DISABLE_PIP_VERSION_CHECK=1"
set "PYTHON_MANAGER_AUTOMATIC_INSTALL=false"
rem on the same disk, so that files are linked and not copied
set "UV_CACHE_DIR=%UV%\cache"

rem The pins of pyproject.toml, the only place where they are written; torch is the first.
set "PINS=import sys,tomllib; p=tomllib.load(open(sys.argv[1],'rb'))['project']; d=p['dependencies']; print(*{'all':d,'torch':d[:1],**p['optional-dependencies']}[sys.argv[2]],sep='\n')"
rem A Python suits when it says so itself: the Store puts one on the PATH that only opens the Store.
set "SUITS=import sys,venv,ensurepip; sys.exit(not ((3,11)<=sys.version_info[:2]<=(3,14) and sys.maxsize>2**32))"
set "ROOM=import sys,shutil; sys.exit(shutil.disk_usage(sys.argv[1]).free < int(sys.argv[2])*2**30)"

set "WHY=This file lies alone. Unpack the whole ZIP (right-click it, Extract All) and start the one in there."
if not exist "%HERE%pyproject.toml" goto failed
set "WHY=Its folder has a ; in its name. Rename that folder: Python cannot work in it."
if not "%HERE:;=%"=="%HERE%" goto failed
if /i "%~1"=="rollback" goto rollback

if exist "%NEXT%" goto ensure
call :ready
if "%errorlevel%"=="0" goto start
:ensure
rem Whoever holds the file open is the one who builds; the system lets go of it even after a crash.
set "WHY=Another window is making the environment just now: wait for it. If there is none, this folder may not be written to: move it to your documents."
(call :build) 9>"%HERE%.venv-lock"
if defined WHY goto failed
if exist "%NEXT%" set "ENV=%NEXT%"

:start
set "P=%ENV%\Scripts\python.exe"
rem The package is found here whatever folder the user stands in, and nothing that lies there instead.
set "PYTHONPATH=%HERE%"
set "PYTHONSAFEPATH=1"
if "%~1"=="" goto studio
if /i "%~1"=="test" goto test
rem in one line: an update replaces this file meanwhile, and cmd reads it line by line
"%P%" -m blockskip %* & exit /b

:studio
"%P%" -m blockskip studio
set "CODE=%errorlevel%"
if "%CODE%"=="0" exit /b 0
echo.
echo BlockSkip Studio ended with code %CODE%. The lines above say why.
if not defined BLOCKSKIP_NO_PAUSE pause
exit /b %CODE%

:test
set "WORDS=%*"
set "WORDS=%WORDS:~4%"
set "WHY="
for %%e in (dev lab) do call :extra %%e
if defined WHY goto failed
cd /d "%HERE%"
"%P%" -m ruff check .
set "CODE=%errorlevel%"
"%P%" -m mypy
if not "%errorlevel%"=="0" set "CODE=%errorlevel%"
"%P%" -m pytest -n 3 --dist loadscope --no-loadscope-reorder %WORDS%
if not "%errorlevel%"=="0" set "CODE=%errorlevel%"
exit /b %CODE%

rem %1 is one of pyproject.toml's extras.
:extra
"%P%" -I "%HERE%blockskip\cli\doctor.py" fits %1
if "%errorlevel%"=="0" exit /b 0
"%P%" -I -c "%PINS%" "%HERE%pyproject.toml" %1 >"%ENV%\%1.txt"
"%P%" -I -m pip install --no-compile -r "%ENV%\%1.txt"
if not "%errorlevel%"=="0" set "WHY=The test tools could not be installed. The lines above say why."
exit /b 0

:rollback
set "WHY=Another window is making the environment just now: wait for it."
(call :go_back) 9>"%HERE%.venv-lock"
if defined WHY goto failed
echo The earlier environment is back; the same command again undoes this.
echo It suits the program's earlier files: where a package is missing now, go back to those as well.
exit /b 0

:go_back
call :settle
set "WHY=There is no earlier environment to go back to. Delete the folder .venv and start again for a fresh one."
if not exist "%OLD%\Scripts\python.exe" exit /b 1
set "WHY=A training or an open studio uses the environment. Start again when it has ended."
call :in_use
if "%errorlevel%"=="0" exit /b 1
rem so it stays until the next update wants other packages
copy /y "%HERE%pyproject.toml" "%OLD%\pyproject.toml" >nul
move "%OLD%" "%NEXT%" >nul
if exist "%OLD%" exit /b 1
set "WHY="
call :settle
exit /b 0

:failed
if /i "%~1"=="doctor" if defined PY %PY% -I "%HERE%blockskip\cli\doctor.py" %2 %3 %4 %5
echo.
echo BlockSkip Studio could not start.
echo %WHY%
echo.
if not defined BLOCKSKIP_NO_PAUSE pause
exit /b 1


rem Is .venv right? The stamp is a copy of the pyproject.toml that it was made for.
:ready
set "P=%ENV%\Scripts\python.exe"
if not exist "%P%" exit /b 1
call :chosen_torch
if not defined BLOCKSKIP_TORCH goto right_torch
if not "%BLOCKSKIP_TORCH%"=="%BUILD%" exit /b 1
:right_torch
rem the Python that it was made from may be gone
"%P%" -I -S -c "0" >nul 2>nul
if not "%errorlevel%"=="0" exit /b 1
fc /b "%HERE%pyproject.toml" "%ENV%\pyproject.toml" >nul 2>nul
if "%errorlevel%"=="0" exit /b 0
"%P%" -I "%HERE%blockskip\cli\doctor.py" fits
if not "%errorlevel%"=="0" exit /b 1
rem something else in it has changed
copy /y "%HERE%pyproject.toml" "%ENV%\pyproject.toml" >nul
exit /b 0

:chosen_torch
set "BUILD="
if exist "%ENV%\torch-build" set /p BUILD=<"%ENV%\torch-build"
exit /b 0


rem Makes .venv-next where .venv is not right; WHY is empty when all went well.
:build
call :settle
if exist "%NEXT%" set "ENV=%NEXT%"
call :ready
if not "%errorlevel%"=="0" goto build_new
set "WHY="
exit /b 0
:build_new
call :make
if exist "%NEW%" rmdir /s /q "%NEW%"
if not defined WHY call :settle
exit /b 0

rem Programs that run from an environment read files of it at any time, so that it must stay as it is.
rem Then .venv-next is used where it lies, and takes the place of .venv at a later start. The old one
rem stays for a rollback.
:settle
if not exist "%NEXT%\Scripts\python.exe" goto no_next
if exist "%MOVED%" goto moved
call :in_use
if "%errorlevel%"=="0" goto beside
if not exist "%HERE%.venv\Scripts\python.exe" goto no_old
move "%HERE%.venv" "%MOVED%" >nul 2>nul
if exist "%HERE%.venv" goto beside
:moved
if exist "%OLD%" rmdir /s /q "%OLD%"
move "%MOVED%" "%OLD%" >nul
:no_old
if exist "%HERE%.venv" rmdir /s /q "%HERE%.venv"
rem virus scanners hold new files for a while: try again for some seconds
for %%i in (1 2 3 4 5 6 7 8) do if exist "%NEXT%" call :put_in_place
exit /b 0
:no_next
if exist "%NEXT%" rmdir /s /q "%NEXT%"
exit /b 0
:beside
echo What runs just now goes on with the environment of before the update.
exit /b 0

:put_in_place
move "%NEXT%" "%HERE%.venv" >nul 2>nul
if exist "%NEXT%" ping -n 2 127.0.0.1 >nul
exit /b 0

:in_use
set "P=%NEXT%\Scripts\python.exe"
if not exist "%P%" set "P=%HERE%.venv\Scripts\python.exe"
if not exist "%P%" exit /b 1
"%P%" -I "%HERE%blockskip\cli\in_use.py" >nul 2>nul
exit /b %errorlevel%

:make
echo BlockSkip Studio: making its Python environment.
echo This is done once and takes some minutes; big files are fetched.
echo.
call :chosen_torch
if defined BLOCKSKIP_TORCH set "BUILD=%BLOCKSKIP_TORCH%"
set "CARD="
nvidia-smi -L >nul 2>nul
if "%errorlevel%"=="0" set "CARD=1"
if exist "%NEW%" rmdir /s /q "%NEW%"

call :find_python
if not defined PY goto fetch_python
%PY% -I -m venv "%NEW%"
goto have_python
:fetch_python
set "WHY=This computer has no Python, and none could be fetched. Is it online? Or install Python 3.12 from python.org yourself (tick: Add python.exe to PATH), then start again."
call :fetch_uv
if not exist "%UV%\uv.exe" exit /b 1
"%UV%\uv.exe" venv --seed --python 3.12 "%NEW%"
if not "%errorlevel%"=="0" exit /b 1
:have_python
set "P=%NEW%\Scripts\python.exe"
set "WHY=Its Python environment could not be made in .venv-new beside this file. The lines above say why."
"%P%" -I -c "%PINS%" "%HERE%pyproject.toml" all >"%NEW%\pins.txt"
if not "%errorlevel%"=="0" exit /b 1
"%P%" -I -c "%PINS%" "%HERE%pyproject.toml" torch >"%NEW%\torch.txt"
"%P%" -I -c "%PINS%" "%HERE%pyproject.toml" launch >"%NEW%\launch.txt"

set "NEED=4"
if defined CARD set "NEED=12"
set "WHY=The disk is nearly full: %NEED% GB are needed here. Free some space, then start again."
"%P%" -I -c "%ROOM%" "%HERE%." %NEED%
if not "%errorlevel%"=="0" exit /b 1

rem The default torch for Windows knows no graphics card. auto asks the driver which one suits, but may
rem choose one too new for the card; cu126 serves older cards and drivers.
set "BUILDS=default"
if defined CARD set "BUILDS=auto cu126 default"
if defined BUILD set "BUILDS=%BUILD%"
set "HAVE="
set "DONE="
for %%b in (%BUILDS%) do call :torch %%b
set "WHY=Torch could not be installed. The lines above say why. Is this computer online? Where they speak of too long a path, move the folder to C:\BlockSkip. Then start again."
if not defined HAVE exit /b 1
if not defined DONE echo Going on without the graphics card. Update its driver, delete the folder .venv and start again; or set BLOCKSKIP_TORCH=cu126.

set "WHY=Its packages could not be installed. The lines above say why. Is this computer online? Where they speak of too long a path, move the folder to C:\BlockSkip. Then start again."
rem not compiled ahead: that takes minutes, and most of it is never imported
"%P%" -I -m pip install --no-compile -r "%NEW%\pins.txt"
if not "%errorlevel%"=="0" exit /b 1
set "WHY=The new environment does not work; what was here before is untouched. Install Microsoft's Visual C++ runtime, https://aka.ms/vs/17/release/vc_redist.x64.exe, then start again."
"%P%" -I -c "import logging; logging.disable(); import torch, diffusers, transformers, peft, gradio, PIL"
if not "%errorlevel%"=="0" exit /b 1

if defined BUILD >"%NEW%\torch-build" echo %BUILD%
copy /y "%HERE%pyproject.toml" "%NEW%\pyproject.toml" >nul
rem only a whole environment that works gets this name
if not exist "%NEXT%" goto name_it
set "WHY=Trainings use the environments of two earlier versions. Start again when one has ended."
call :in_use
if "%errorlevel%"=="0" exit /b 1
rmdir /s /q "%NEXT%"
:name_it
set "WHY=The new environment could not be put in its place. Close every window of BlockSkip Studio and start again."
for %%i in (1 2 3 4 5 6 7 8) do if exist "%NEW%" call :finish
if not exist "%NEW%" set "WHY="
exit /b 0

:finish
move "%NEW%" "%NEXT%" >nul 2>nul
if exist "%NEW%" ping -n 2 127.0.0.1 >nul
exit /b 0

rem %1 is a build of torch: install it and let it really multiply on the card.
:torch
if defined DONE exit /b 0
echo.
echo Fetching torch (%1 build) ...
if "%1"=="default" goto torch_default
"%P%" -I -m pip install --no-compile -r "%NEW%\launch.txt"
if not "%errorlevel%"=="0" exit /b 0
rem uv knows where each build lies; reinstall because another one of that version may be in already
"%P%" -I -m uv pip install --python "%P%" --torch-backend=%1 --reinstall-package torch -r "%NEW%\torch.txt"
goto torch_try
:torch_default
"%P%" -I -m pip install --no-compile -r "%NEW%\torch.txt"
:torch_try
if not "%errorlevel%"=="0" exit /b 0
set "HAVE=%1"
if not defined CARD set "DONE=1"
if "%1"=="cpu" set "DONE=1"
if defined DONE exit /b 0
"%P%" -I "%HERE%blockskip\cli\doctor.py" card >nul
if "%errorlevel%"=="0" set "DONE=1"
if not defined DONE echo This build does not compute on the graphics card.
exit /b 0

:find_python
set "PY="
if defined BLOCKSKIP_PYTHON call :try "%BLOCKSKIP_PYTHON%"
for %%v in (3.13 3.12 3.11 3.14) do if not defined PY call :try py -%%v
for %%n in (python python3) do if not defined PY call :try %%n
for %%v in (313 312 311 314) do if not defined PY call :try "%LOCALAPPDATA%\Programs\Python\Python%%v\python.exe"
for %%v in (313 312 311 314) do if not defined PY call :try "%ProgramFiles%\Python%%v\python.exe"
exit /b 0

:try
%* -I -c "%SUITS%" >nul 2>nul
if "%errorlevel%"=="0" set PY=%*
exit /b 0

rem uv is one file that can fetch a Python. Both tools are Windows' own: others of that name may differ.
:fetch_uv
if exist "%UV%\uv.exe" exit /b 0
echo This computer has no Python: fetching one.
if not exist "%UV%" mkdir "%UV%"
"%SystemRoot%\System32\curl.exe" -fL --retry 3 -o "%UV%\uv.zip" "https://github.com/astral-sh/uv/releases/download/%UV_VERSION%/uv-x86_64-pc-windows-msvc.zip"
if not "%errorlevel%"=="0" exit /b 1
"%SystemRoot%\System32\tar.exe" -xf "%UV%\uv.zip" -C "%UV%"
exit /b %errorlevel%
