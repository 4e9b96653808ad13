// A package of Stability Matrix, whose packages are classes of its own program: a draft for its folder
// StabilityMatrix.Core/Models/Packages, never compiled. It lets our launcher's work be done by Stability
// Matrix: a venv with the packages that pyproject.toml pins, and app.py in it.

using Injectio.Attributes;
using StabilityMatrix.Core.Helper;
using StabilityMatrix.Core.Helper.Cache;
using StabilityMatrix.Core.Helper.HardwareInfo;
using StabilityMatrix.Core.Models.Progress;
using StabilityMatrix.Core.Processes;
using StabilityMatrix.Core.Python;
using StabilityMatrix.Core.Services;

namespace StabilityMatrix.Core.Models.Packages;

[RegisterSingleton<BasePackage, BlockSkipStudio>(Duplicate = DuplicateStrategy.Append)]
public class BlockSkipStudio(
    IGithubApiCache githubApi,
    ISettingsManager settings,
    IDownloadService downloads,
    IPrerequisiteHelper prerequisites,
    IPyInstallationManager pythons,
    IPipWheelService wheels
) : BaseGitPackage(githubApi, settings, downloads, prerequisites, pythons, wheels)
{
    public override string Name => "blockskip-studio"; // of the repository
    public override string DisplayName { get; set; } = "BlockSkip Studio";
    public override string Author => ""; // who publishes it
    public override string Blurb =>
        "Teach an image model what your pet looks like: LoRA training on cards of 4 to 24 GB";
    public override string LicenseType => "Apache-2.0";
    public override string LicenseUrl => ""; // of LICENSE where it is published
    public override Uri PreviewImageUri => new("about:blank"); // of assets/icon.png where it is published
    public override string LaunchCommand => "app.py";
    public override string MainBranch => "main";
    public override PackageType PackageType => PackageType.SdTraining;
    public override PackageDifficulty InstallerSortOrder => PackageDifficulty.Simple;
    public override bool IsCompatible => HardwareHelper.HasNvidiaGpu();
    public override IEnumerable<TorchIndex> AvailableTorchIndices => [TorchIndex.Cuda, TorchIndex.Cpu];
    public override TorchIndex GetRecommendedTorchVersion() =>
        IsCompatible ? TorchIndex.Cuda : TorchIndex.Cpu;
    public override PyVersion RecommendedPythonVersion => Python.PyInstallationManager.Python_3_12_10;
    public override List<LaunchOptionDefinition> LaunchOptions => [LaunchOptionDefinition.Extras];

    // LoRAs are copied into ComfyUI by a press on the studio's page.
    public override string OutputFolderName => string.Empty;
    public override Dictionary<SharedOutputType, IReadOnlyList<string>>? SharedOutputFolders => null;
    public override SharedFolderMethod RecommendedSharedFolderMethod => SharedFolderMethod.None;
    public override IEnumerable<SharedFolderMethod> AvailableSharedFolderMethods => [SharedFolderMethod.None];

    public override async Task InstallPackage(
        string installLocation,
        InstalledPackage installedPackage,
        InstallPackageOptions options,
        IProgress<ProgressReport>? progress = null,
        Action<ProcessOutput>? onConsoleOutput = null,
        CancellationToken cancellationToken = default
    )
    {
        await using var venv = await SetupVenvPure(
                installLocation,
                pythonVersion: options.PythonOptions.PythonVersion
            )
            .ConfigureAwait(false);
        // “.” is the folder itself: pip reads the pins of its pyproject.toml
        var config = new PipInstallConfig { ExtraPipArgs = ["."] };
        await StandardPipInstallProcessAsync(
                venv,
                options,
                installedPackage,
                config,
                onConsoleOutput,
                progress,
                cancellationToken
            )
            .ConfigureAwait(false);
    }

    public override async Task RunPackage(
        string installLocation,
        InstalledPackage installedPackage,
        RunPackageOptions options,
        Action<ProcessOutput>? onConsoleOutput = null,
        CancellationToken cancellationToken = default
    )
    {
        await SetupVenv(installLocation, pythonVersion: PyVersion.Parse(installedPackage.PythonVersion))
            .ConfigureAwait(false);
        VenvRunner.RunDetached(
            [Path.Combine(installLocation, options.Command ?? LaunchCommand), .. options.Arguments],
            onConsoleOutput,
            OnExit
        );
    }
}
