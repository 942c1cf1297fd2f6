; The installer for Windows: for one user, without an administrator's rights.
;
;   makensis -DVERSION=0.1.0 -DFOLDER=dist\mirrorgui -DICON=icon.ico -DOUTPUT=setup.exe mirrorgui.nsi
;
; FOLDER is what PyInstaller made on Windows. "/S" installs without asking, "/D=PATH" names a folder.

Unicode true
ManifestDPIAware true
SetCompressor /SOLID lzma
RequestExecutionLevel user

!include "MUI2.nsh"
!include "FileFunc.nsh"

!define APPLICATION_ID "io.github.mirrorgui.mirrorgui"
!define UNINSTALL "Software\Microsoft\Windows\CurrentVersion\Uninstall\${APPLICATION_ID}"
!define CLASSES "Software\Classes"

Name "MirrorGUI"
OutFile "${OUTPUT}"
InstallDir "$LOCALAPPDATA\Programs\MirrorGUI"
InstallDirRegKey HKCU "${UNINSTALL}" "InstallLocation"
BrandingText "MirrorGUI ${VERSION}"

VIProductVersion "${VERSION}.0"
VIAddVersionKey "ProductName" "MirrorGUI"
VIAddVersionKey "ProductVersion" "${VERSION}"
VIAddVersionKey "FileVersion" "${VERSION}"
VIAddVersionKey "FileDescription" "MirrorGUI Setup"
VIAddVersionKey "LegalCopyright" "The MirrorGUI authors, LGPL-2.1-or-later"

!define MUI_ICON "${ICON}"
!define MUI_UNICON "${ICON}"
!define MUI_FINISHPAGE_RUN "$INSTDIR\mirrorgui-window.exe"

!insertmacro MUI_PAGE_WELCOME
!insertmacro MUI_PAGE_LICENSE "${LICENCE}"
!insertmacro MUI_PAGE_DIRECTORY
!insertmacro MUI_PAGE_INSTFILES
!insertmacro MUI_PAGE_FINISH
!insertmacro MUI_UNPAGE_CONFIRM
!insertmacro MUI_UNPAGE_INSTFILES
!insertmacro MUI_LANGUAGE "English"

; "Open with" offers MirrorGUI; what opens these files by default stays what it was.
!macro OfferFor ENDING
  WriteRegStr HKCU "${CLASSES}\.${ENDING}\OpenWithProgids" "${APPLICATION_ID}" ""
!macroend

!macro WithdrawFrom ENDING
  DeleteRegValue HKCU "${CLASSES}\.${ENDING}\OpenWithProgids" "${APPLICATION_ID}"
!macroend

!macro ForEveryEnding MACRO
  !insertmacro ${MACRO} "qcow2"
  !insertmacro ${MACRO} "qcow"
  !insertmacro ${MACRO} "img"
  !insertmacro ${MACRO} "vmdk"
  !insertmacro ${MACRO} "vdi"
  !insertmacro ${MACRO} "vhdx"
  !insertmacro ${MACRO} "vhd"
!macroend

; Everything that an installation has put there, and nothing else that lies in the folder.
!macro RemoveProgram
  RMDir /r "$INSTDIR\_internal"
  Delete "$INSTDIR\mirrorgui.exe"
  Delete "$INSTDIR\mirrorgui-window.exe"
  Delete "$INSTDIR\LICENCES"
  Delete "$INSTDIR\LICENSE"
!macroend

!macro TellShell
  System::Call 'shell32::SHChangeNotify(i 0x08000000, i 0, p 0, p 0)'
!macroend

Section "MirrorGUI"
  ; An older version may have files that this one has not.
  !insertmacro RemoveProgram
  SetOutPath "$INSTDIR"
  File /r "${FOLDER}/*"
  WriteUninstaller "$INSTDIR\uninstall.exe"

  CreateShortcut "$SMPROGRAMS\MirrorGUI.lnk" "$INSTDIR\mirrorgui-window.exe"

  WriteRegStr HKCU "${CLASSES}\${APPLICATION_ID}" "" "Disk image"
  WriteRegStr HKCU "${CLASSES}\${APPLICATION_ID}\DefaultIcon" "" "$INSTDIR\mirrorgui-window.exe,0"
  WriteRegStr HKCU "${CLASSES}\${APPLICATION_ID}\shell\open\command" "" \
    '"$INSTDIR\mirrorgui-window.exe" "%1"'
  !insertmacro ForEveryEnding OfferFor

  WriteRegStr HKCU "${UNINSTALL}" "DisplayName" "MirrorGUI"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayVersion" "${VERSION}"
  WriteRegStr HKCU "${UNINSTALL}" "DisplayIcon" "$INSTDIR\mirrorgui-window.exe"
  WriteRegStr HKCU "${UNINSTALL}" "Publisher" "The MirrorGUI authors"
  WriteRegStr HKCU "${UNINSTALL}" "InstallLocation" "$INSTDIR"
  WriteRegStr HKCU "${UNINSTALL}" "UninstallString" '"$INSTDIR\uninstall.exe"'
  WriteRegStr HKCU "${UNINSTALL}" "QuietUninstallString" '"$INSTDIR\uninstall.exe" /S'
  WriteRegDWORD HKCU "${UNINSTALL}" "NoModify" 1
  WriteRegDWORD HKCU "${UNINSTALL}" "NoRepair" 1
  ${GetSize} "$INSTDIR" "/S=0K" $0 $1 $2
  WriteRegDWORD HKCU "${UNINSTALL}" "EstimatedSize" $0
  !insertmacro TellShell
SectionEnd

Section "Uninstall"
  !insertmacro RemoveProgram
  Delete "$INSTDIR\uninstall.exe"
  RMDir "$INSTDIR"
  Delete "$SMPROGRAMS\MirrorGUI.lnk"
  !insertmacro ForEveryEnding WithdrawFrom
  DeleteRegKey HKCU "${CLASSES}\${APPLICATION_ID}"
  DeleteRegKey HKCU "${UNINSTALL}"
  !insertmacro TellShell
SectionEnd
